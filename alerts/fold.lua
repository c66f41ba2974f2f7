-- Puts a digest in the place of the deliveries that it stands for: all of it, or nothing.
--
-- KEYS  due, digest, held, then the delivery of each. All carry one hash tag.
-- ARGV  digest (JSON), its id, due_s, then the id of each delivery.
-- Returns 1 when it was done, 0 when one of them is queued no more.

for n = 4, #KEYS do
  if not redis.call('ZSCORE', KEYS[1], KEYS[n]) then
    return 0
  end
end
for n = 4, #KEYS do
  redis.call('ZREM', KEYS[1], KEYS[n])
  redis.call('DEL', KEYS[n])
  redis.call('HSET', KEYS[3], ARGV[n], ARGV[2])
end
redis.call('SET', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[3], KEYS[2])
return 1
