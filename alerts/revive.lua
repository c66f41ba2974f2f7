-- Queues a delivery again that was given up: it leaves the dead list and waits, or nothing happens. Its line in the histories
-- of its alerts leaves the place that it shares with others, so that what becomes of it now takes that line away.
--
-- KEYS  dead, due, delivery, then the history of each of its alerts. All carry one hash tag.
-- ARGV  the delivery as it stands in the dead list, due_s, delivery (JSON), id.
-- Returns 1 when it was done, 0 when it stands there no more.

if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
  return 0
end
redis.call('SET', KEYS[3], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], KEYS[3])
local begins = '{"id":"' .. ARGV[4] .. '",'
for n = 4, #KEYS do
  local lines = redis.call('HGETALL', KEYS[n])
  for at = 1, #lines, 2 do
    if string.sub(lines[at + 1], 1, #begins) == begins and lines[at] ~= ARGV[4] then
      redis.call('HDEL', KEYS[n], lines[at])
      redis.call('HSET', KEYS[n], ARGV[4], lines[at + 1])
    end
  end
end
return 1
