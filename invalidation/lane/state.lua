-- state.lua: fields of a lane's meta hash, from the master that takes writes.
-- KEYS 1 meta, 2 a key that never exists
-- ARGV fields
-- -> their values, as HMGET gives them; a replica, or a master that lost its replicas, answers with an error
redis.call('UNLINK', KEYS[2])  -- a write without effect: a server that takes no writes knows the past at best
local out = {}
for from = 1, #ARGV, 1000 do  -- more at once do not fit on Lua's stack
  for _, v in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, from, math.min(from + 999, #ARGV)))) do out[#out + 1] = v end
end
return out
