-- Settles a delivery: it is done, tried again later, dead, or told no more; its alerts' histories say so. Nothing happens to
-- one that is queued no more, so that a process that lost the lead cannot bring back what another has delivered.
--
-- KEYS  due, delivery, dead, held, then of each of its alerts the history and its counts. All carry one hash tag.
-- ARGV  "done", "retry", "dead" or "superseded"; id, delivery (JSON), due_s, longest dead list, line of the history (JSON, empty for
--       none), life_s, where it stands there, among how many places (0: one to itself), then the ids that it, a digest,
--       stands for.
-- Returns 1 when it was settled, 0 when it was not queued.

local what, id, delivery, due_s, longest, line, life_s, field, places = unpack(ARGV, 1, 9)
if not redis.call('ZSCORE', KEYS[1], KEYS[2]) then
  return 0
end
if what == 'retry' then
  redis.call('SET', KEYS[2], delivery)
  redis.call('ZADD', KEYS[1], due_s, KEYS[2])
else
  redis.call('ZREM', KEYS[1], KEYS[2])
  redis.call('DEL', KEYS[2])
  for n = 10, #ARGV do
    redis.call('HDEL', KEYS[4], ARGV[n])
  end
  if what == 'dead' then
    redis.call('LPUSH', KEYS[3], delivery)
    redis.call('LTRIM', KEYS[3], 0, longest - 1)
  end
end
if line ~= '' then
  places = tonumber(places)
  for n = 5, #KEYS, 2 do
    local at = field
    if places > 0 then
      local count = redis.call('HINCRBY', KEYS[n + 1], field, 1)
      at = places > 1 and field .. ':' .. (count - 1) % places or field
      redis.call('EXPIRE', KEYS[n + 1], life_s)
    end
    redis.call('HDEL', KEYS[n], id)
    redis.call('HSET', KEYS[n], at, line)
    redis.call('EXPIRE', KEYS[n], life_s)
  end
end
return 1
