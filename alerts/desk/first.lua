-- Claims the first token of the desk for who is about to show it, or keeps it, for good; called again it does the same again.
--
-- KEYS  tokens, started. Both carry one hash tag.
-- ARGV  id of the token, for how long (s) it is claimed, the token (JSON, empty to claim it).
-- Returns 1 when it was done, 0 when another was the first.

local id, claim_s, token = unpack(ARGV)
local started = redis.call('GET', KEYS[2])
if started and started ~= id or not started and redis.call('HLEN', KEYS[1]) > 0 then
  return 0
end
if token == '' then
  redis.call('SET', KEYS[2], id, 'EX', claim_s)
else
  redis.call('HSET', KEYS[1], id, token)
  redis.call('SET', KEYS[2], id)
end
return 1
