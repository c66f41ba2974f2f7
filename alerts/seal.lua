-- Moves the last sealed minute of one partition forward, never back. KEYS sealed; ARGV minute. Returns what stands.
local stands = tonumber(redis.call('GET', KEYS[1]) or '-1e15')
local minute = tonumber(ARGV[1])
if minute > stands then
  redis.call('SET', KEYS[1], ARGV[1])
  return minute
end
return stands
