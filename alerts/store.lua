-- Stores one change of one alert, with its transitions in the alert's history and in the log, and with the audit log's
-- entry of who did it: all of it, or nothing.
--
-- KEYS  fence, alert, life, history, open, after, recent, log, audit, unsure, started. All carry one hash tag.
-- ARGV  token, life expected (JSON, empty for none), alert (JSON, empty to leave it), life (JSON), id, which of "open" and
--       "after" it belongs into (empty for none), now_s, life_s, longest log, entry of the audit log (JSON, empty for none), longest audit log,
--       which of the history, with what is new, make room (msgpack array of numbers from 0), started_s, then each transition (JSON).
-- Returns 1 when it was stored, 0 when the life is not the expected one, or the history has become shorter than its
-- numbers go. A leader's write carries its token; it fails when there is a newer leader.

local token, expected, alert, life, id, place, now_s, life_s, longest, entry, entries, gone, started_s = unpack(ARGV, 1, 13)
if token ~= '' and redis.call('GET', KEYS[1]) ~= token then
  return redis.error_reply('FENCED another process leads')
end
if (redis.call('GET', KEYS[3]) or '') ~= expected then
  return 0
end
gone = cmsgpack.unpack(gone)
if #gone > 0 and redis.call('LLEN', KEYS[4]) + #ARGV - 13 <= gone[#gone] then
  return 0
end
if alert ~= '' then
  redis.call('SET', KEYS[2], alert, 'EX', life_s)
  redis.call('SREM', KEYS[10], id) -- its detector has spoken
else
  redis.call('EXPIRE', KEYS[2], life_s)
end
redis.call(place == 'open' and 'SADD' or 'SREM', KEYS[5], id)
redis.call(place == 'after' and 'SADD' or 'SREM', KEYS[6], id)
redis.call('SET', KEYS[3], life, 'EX', life_s)
for n = 14, #ARGV do
  redis.call('RPUSH', KEYS[4], ARGV[n])
  redis.call('XADD', KEYS[8], 'MAXLEN', '~', longest, '*', 'line', ARGV[n])
end
for _, at in ipairs(gone) do
  redis.call('LSET', KEYS[4], at, '') -- no transition is empty
end
redis.call('LREM', KEYS[4], 0, '')
redis.call('EXPIRE', KEYS[4], life_s)
if entry ~= '' then
  redis.call('XADD', KEYS[9], 'MAXLEN', '~', entries, '*', 'entry', entry)
end
redis.call('ZADD', KEYS[7], now_s, id)
redis.call('ZADD', KEYS[11], started_s, id)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[7], '-inf', tonumber(now_s) - tonumber(life_s))) do
  redis.call('ZREM', KEYS[7], old)
  redis.call('ZREM', KEYS[11], old)
end
return 1
