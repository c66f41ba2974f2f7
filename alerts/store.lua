-- Stores one revision of an alert together with its deliveries and its line in the log, or nothing when it stands already.
--
-- KEYS  alert, open, log, then due and delivery of each delivery. All carry the same hash tag.
-- ARGV  revision, alert (JSON), id, status, life_s, longest log, line (JSON, empty for none), now_s, then a delivery
--       (JSON) each.
-- Returns 1 when it was stored, 0 when this revision or a later one stood there.

local stored = redis.call('GET', KEYS[1])
if stored and cjson.decode(stored).revision >= tonumber(ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[5])
if ARGV[4] == 'firing' then
  redis.call('SADD', KEYS[2], ARGV[3])
else
  redis.call('SREM', KEYS[2], ARGV[3])
end
if ARGV[7] ~= '' then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'line', ARGV[7])
end
for n = 9, #ARGV do
  local at = 4 + 2 * (n - 9)
  redis.call('SET', KEYS[at + 1], ARGV[n])
  redis.call('ZADD', KEYS[at], ARGV[8], KEYS[at + 1])
end
return 1
