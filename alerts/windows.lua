-- Applies one batch of one partition: counts, ids, stories and the partition's offset move together or not at all.
--
-- KEYS  progress, sealed, then ids and stories by day, then counts and items by arrival minute (in the order of
--       `days` and `minutes`). All carry the partition's hash tag. One key more may be written: the counts and items of
--       the minute after the last sealed one, which only this script can know; it has the same hash tag.
-- ARGV  one msgpack array, built in windows.py.
-- Returns the offset that was applied before, then counted, repeats, copies, old, late, unlisted; the offset alone when
-- it is not just below `first` or above: offsets are lacking, and nothing was done.
--
-- Each key is read before anything is written, so that a wrong type stops the call while it has changed nothing.

local first, position, items, days, minutes, prefix, too_old_s, max_items, keep_s, evidence_s, remember_s =
  unpack(cmsgpack.unpack(ARGV[1]))
local progress, sealed_key = KEYS[1], KEYS[2]

local applied = tonumber(redis.call('HGET', progress, 'offset') or '-1')
local clock_ms = tonumber(redis.call('HGET', progress, 'clock_ms') or '-1')
local sealed = tonumber(redis.call('GET', sealed_key) or '-1e15')
local before = applied
-- What claims to be seen later than this does not say what time it is: the partition's older records may still wait.
local newest_ms = tonumber(redis.call('TIME')[1]) * 1000 + 60000
if first > applied + 1 then return {before} end
if first >= 0 then redis.call('HDEL', progress, 'rebuilding') end -- a note that outlived its rebuild
if position <= applied then return {before, 0, #items, 0, 0, 0, 0} end

local ids_key, stories_key, ids, stories = {}, {}, {}, {}
for n, day in ipairs(days) do
  ids_key[day], stories_key[day] = KEYS[2 * n + 1], KEYS[2 * n + 2]
  ids[day], stories[day] = {}, {}
end
local bucket_keys = {}
for n, minute in ipairs(minutes) do
  local at = 2 * #days + 2 * n + 1
  bucket_keys[minute] = {KEYS[at], KEYS[at + 1]}
end

-- Was it seen on this day, the day before or the day after, earlier in this batch or before it?
local function seen(fresh, keys, day, value)
  for d = day - 1, day + 1 do
    if fresh[d] and fresh[d][value] then return true end
  end
  for d = day - 1, day + 1 do
    if redis.call('SISMEMBER', keys[d], value) == 1 then return true end
  end
  return false
end

local buckets = {}
local function bucket_at(minute)
  local bucket = buckets[minute]
  if not bucket then
    local keys = bucket_keys[minute]
    if not keys then
      local name = string.format('%.0f', minute)
      keys = {prefix .. 'counts:' .. name, prefix .. 'items:' .. name}
    end
    redis.call('HLEN', keys[1])
    bucket = {counts_key = keys[1], items_key = keys[2], counts = {}, items = {},
              room = max_items - redis.call('LLEN', keys[2])}
    buckets[minute] = bucket
  end
  return bucket
end

local counted, repeats, copies, old, late, unlisted = 0, 0, 0, 0, 0, 0
for _, item in ipairs(items) do
  local offset, id, story, day, event_minute, arrival_minute, seen_ms, is_old, label, series, evidence = unpack(item)
  if offset <= applied then
    repeats = repeats + 1
  else
    applied = offset
    if seen_ms > clock_ms and seen_ms <= newest_ms then clock_ms = seen_ms end
    local id_seen = seen(ids, ids_key, day, id)
    local story_seen = not id_seen and seen(stories, stories_key, day, story)
    ids[day][id], stories[day][story] = true, true
    if arrival_minute <= sealed then arrival_minute = sealed + 1 end
    if id_seen then
      repeats = repeats + 1
    elseif is_old then
      old = old + 1
    elseif (arrival_minute - event_minute) * 60 > too_old_s then
      late = late + 1
    else
      local bucket = bucket_at(arrival_minute)
      if story_seen then
        label = 'copy'
        copies = copies + 1
      else
        counted = counted + 1
        if evidence ~= '' then
          if #bucket.items < bucket.room then
            bucket.items[#bucket.items + 1] = evidence
          else
            unlisted = unlisted + 1
          end
        end
      end
      local tail = '\t' .. string.format('%.0f', event_minute) .. '\t' .. label
      local counts = bucket.counts
      for _, name in ipairs(series) do
        local field = name .. tail
        counts[field] = (counts[field] or 0) + 1
      end
    end
  end
end

-- From here on only writes.
local function add_all(keys, fresh)
  for day, values in pairs(fresh) do
    local chunk = {}
    for value in pairs(values) do
      chunk[#chunk + 1] = value
      if #chunk == 1000 then
        redis.call('SADD', keys[day], unpack(chunk))
        chunk = {}
      end
    end
    if #chunk > 0 then redis.call('SADD', keys[day], unpack(chunk)) end
    if next(values) then redis.call('EXPIRE', keys[day], remember_s) end
  end
end
add_all(ids_key, ids)
add_all(stories_key, stories)
for _, bucket in pairs(buckets) do
  for field, count in pairs(bucket.counts) do
    redis.call('HINCRBY', bucket.counts_key, field, count)
  end
  redis.call('EXPIRE', bucket.counts_key, keep_s)
  for _, evidence in ipairs(bucket.items) do
    redis.call('RPUSH', bucket.items_key, evidence)
  end
  if #bucket.items > 0 then redis.call('EXPIRE', bucket.items_key, evidence_s) end
end
redis.call('HSET', progress, 'offset', string.format('%.0f', position))
if clock_ms >= 0 then redis.call('HSET', progress, 'clock_ms', string.format('%.0f', clock_ms)) end
return {before, counted, repeats, copies, old, late, unlisted}
