-- Stores a silence, with the audit log's entry of who did it: both, or nothing. Stored so already it stays as it is: a client
-- that gets no answer calls again.
--
-- KEYS  silences, audit. Both carry one hash tag.
-- ARGV  id, silence (JSON), entry of the audit log (JSON, empty for none), longest audit log.

if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '' then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'entry', ARGV[3])
end
return 1
