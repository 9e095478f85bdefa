/**
 * Tries every command that the other scripts use, on keys of its own, and leaves nothing behind.
 *
 * KEYS  a lock, an epoch, members, order: names that nobody uses
 * ARGV  a channel that nobody uses, `SHARDNUMSUB` or `NUMSUB`, `SPUBLISH` or `PUBLISH`
 * gives `command`, `error`, … for each one that failed
 */
import { type Script, script } from './script.ts';

export const PROBE: Script = script(
  'probe',
  `
local failures = {}
local function try(...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer.err then
    failures[#failures + 1] = (...)
    failures[#failures + 1] = answer.err
  end
end
try('TIME')
try('SET', KEYS[1], '1', 'PX', 1000)
try('GET', KEYS[1])
try('PTTL', KEYS[1])
try('PEXPIRE', KEYS[1], 1000)
try('EXISTS', KEYS[1])
try('SET', KEYS[2], '1', 'PX', 1000)
try('HSET', KEYS[3], 'f', '1')
try('HGET', KEYS[3], 'f')
try('HMGET', KEYS[3], 'f')
try('HGETALL', KEYS[3])
try('HINCRBY', KEYS[3], 'f', 1)
try('HDEL', KEYS[3], 'f')
try('ZADD', KEYS[4], 1, 'm')
try('ZRANGE', KEYS[4], 0, 0)
try('ZRANK', KEYS[4], 'm')
try('ZSCORE', KEYS[4], 'm')
try('ZREM', KEYS[4], 'm')
try('PUBSUB', ARGV[2], ARGV[1])
try(ARGV[3], ARGV[1], '')
for _, key in ipairs(KEYS) do try('DEL', key) end
return failures
`,
);
