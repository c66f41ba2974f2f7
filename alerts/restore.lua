-- Puts back an alert that Redis has lost, or has less of. It is no news: the log does not get it.
--
-- KEYS  alert, life, history, open, after, recent, the dispatcher's book, to which an empty entry says that it was put back,
--       then unsure, which says so of what fires as far as was known, started.
-- ARGV  alert (JSON), life (JSON), id, which of "open" and "after" it belongs into (empty for none), changed_s, life_s,
--       how many transitions it has been through, started_s, then each that is kept (JSON).
-- Returns 1 when it was put back, 0 when one that has been through as many stood there.

local alert, life, id, place, changed_s, life_s, been, started_s = unpack(ARGV, 1, 8) -- the history may be long
if redis.call('LLEN', KEYS[3]) >= #ARGV - 8 and redis.call('EXISTS', KEYS[1], KEYS[2]) == 2 then
  local read, stands = pcall(cjson.decode, redis.call('GET', KEYS[2]))
  if not read or type(stands) ~= 'table' or type(stands.transitions) ~= 'number' or stands.transitions >= tonumber(been) then
    return 0
  end
end
redis.call('SET', KEYS[1], alert, 'EX', life_s)
redis.call('SET', KEYS[2], life, 'EX', life_s)
redis.call('DEL', KEYS[3])
for n = 9, #ARGV do
  redis.call('RPUSH', KEYS[3], ARGV[n])
end
redis.call('EXPIRE', KEYS[3], life_s)
redis.call(place == 'open' and 'SADD' or 'SREM', KEYS[4], id)
redis.call(place == 'after' and 'SADD' or 'SREM', KEYS[5], id)
redis.call(place == 'open' and 'SADD' or 'SREM', KEYS[8], id)
redis.call('ZADD', KEYS[6], changed_s, id)
redis.call('ZADD', KEYS[9], started_s, id)
redis.call('HSET', KEYS[7], id, '')
return 1
