-- Moves the dispatcher on: its cursor in the log, what it knows of alerts and groups, and the deliveries that came of it
-- move together or not at all.
--
-- KEYS  fence, cursor, alerts, groups, the cursor's copy, then due and delivery of each delivery, then where each of the
--       ends is noted. All carry the same hash tag.
-- ARGV  token, cursor expected (empty for none, or no text), cursor, then four msgpack arrays: alerts to set (id, value, ...),
--       alerts to drop, groups to set, groups to drop; a fifth of the ends (receiver, id of the delivery that told of it,
--       ...), how long (s) they are kept; then due_s and delivery (JSON) of each.
-- Returns 1 when it was stored, 0 when the cursor is not the expected one: somebody else moved it. A leader's write
-- carries its token; it fails when there is a newer leader. A delivery that waits already is left as it is.

local token, expected, cursor = unpack(ARGV, 1, 3) -- of thousands of arguments not all would fit on the stack
if token ~= '' and redis.call('GET', KEYS[1]) ~= token then
  return redis.error_reply('FENCED another process leads')
end
local is_text = redis.call('TYPE', KEYS[2]).ok == 'string' -- else it is no cursor, and is overwritten
if (is_text and redis.call('GET', KEYS[2]) or '') ~= expected then
  return 0
end
redis.call('SET', KEYS[2], cursor)
redis.call('SET', KEYS[5], cursor)
for n = 0, 1 do
  local set, drop = cmsgpack.unpack(ARGV[4 + 2 * n]), cmsgpack.unpack(ARGV[5 + 2 * n])
  for at = 1, #set, 2 do
    redis.call('HSET', KEYS[3 + n], set[at], set[at + 1])
  end
  for _, field in ipairs(drop) do
    redis.call('HDEL', KEYS[3 + n], field)
  end
end
local ends = cmsgpack.unpack(ARGV[8])
for at = 1, #ends, 2 do
  local key = KEYS[#KEYS - (#ends - at - 1) / 2]
  redis.call('HSET', key, ends[at], ends[at + 1])
  redis.call('EXPIRE', key, ARGV[9])
end
for n = 10, #ARGV, 2 do
  local at = n - 4
  if redis.call('SET', KEYS[at + 1], ARGV[n + 1], 'NX') then
    redis.call('ZADD', KEYS[at], ARGV[n], KEYS[at + 1])
  end
end
return 1
