-- Sets a key for the leader. KEYS fence, key; ARGV token (empty: no leader is asked for), value.
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process leads')
end
redis.call('SET', KEYS[2], ARGV[2])
return 1
