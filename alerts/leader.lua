-- Takes, keeps or gives up the lead. KEYS leader, fence; ARGV owner, milliseconds (0: give it up).
-- Returns the token that the owner's writes must carry, empty when another process leads.
--
-- The lead is a key that expires unless it is renewed. Each new lead gets a token that no lead before it had, and leaves
-- it at `fence`: scripts refuse writes with any other, so that a leader that slept through its own end does no harm.
-- The time is in it for a server that was emptied, and counts from 1 again: the same owner is to notice that too.

local owner, ttl_ms = ARGV[1], tonumber(ARGV[2])
local holder = redis.call('GET', KEYS[1])
if ttl_ms == 0 then
  if holder == owner then redis.call('DEL', KEYS[1]) end
  return ''
end
if holder and holder ~= owner then
  return ''
end
local token = redis.call('GET', KEYS[2])
if not holder or not token then
  local last = token and tonumber(string.match(token, '^%d+')) or 0
  local time = redis.call('TIME')
  token = string.format('%.0f', last + 1) .. ':' .. owner .. ':' .. time[1] .. '.' .. time[2]
  redis.call('SET', KEYS[2], token)
end
redis.call('SET', KEYS[1], owner, 'PX', ttl_ms)
return token
