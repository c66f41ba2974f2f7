-- Queues a delivery again that was given up: it leaves the dead list and waits, or nothing happens.
--
-- KEYS  dead, due, delivery. All carry one hash tag.
-- ARGV  the delivery as it stands in the dead list, due_s, delivery (JSON).
-- Returns 1 when it was done, 0 when it stands there no more.

if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
  return 0
end
redis.call('SET', KEYS[3], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], KEYS[3])
return 1
