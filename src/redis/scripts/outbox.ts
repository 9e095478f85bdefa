/**
 * An outbox. Three keys in one hash slot:
 *
 * | key     | type   | holds                                                                                        |
 * |---------|--------|----------------------------------------------------------------------------------------------|
 * | entries | stream | the envelopes in the order in which they were put; its group knows whose they are             |
 * | due     | zset   | of each entry when it is due, in ms: after its delay, or when the lease of its claim is over  |
 * | changed | hash   | of entries that were put back, the envelope that stands for the one in the stream             |
 *
 * Each script changes all three in one step, so that an entry is in the first two or in none. What was claimed by a
 * process that died is due again by itself, exactly when the lease ends that it was claimed with: nobody looks through the
 * pending entries for those that are idle.
 *
 * Entries without an owner belong to NOBODY, so that their count of deliveries lasts.
 */
import { type Script, script } from './script.ts';

const COMMON_LUA = `
local call = redis.call
local entries, due, changed = KEYS[1], KEYS[2], KEYS[3]
local GROUP, NOBODY = 'workers', '-'
local time = call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)

local function dueIn(id, delayMs) call('ZADD', due, string.format('%.0f', nowMs + delayMs), id) end

-- {id, owner, idle, deliveries} of an entry that was claimed before.
local function pending(id) return call('XPENDING', entries, GROUP, id, id, 1)[1] end
`;

/** ARGV delay in ms, envelopes. */
export const PUT: Script = script(
  'put',
  `${COMMON_LUA}
if call('EXISTS', entries) == 0 then call('XGROUP', 'CREATE', entries, GROUP, '0', 'MKSTREAM') end
for index = 2, #ARGV do
  dueIn(call('XADD', entries, '*', 'e', ARGV[index]), tonumber(ARGV[1]))
end
`,
);

/**
 * ARGV  owner, most, lease in ms
 * gives ms until the next one is due or -1; then of each entry its id, envelope, and 1 when it was claimed before
 */
export const CLAIM: Script = script(
  'claim',
  `${COMMON_LUA}
local owner, most, leaseMs = ARGV[1], ARGV[2], tonumber(ARGV[3])
local answer = { -1 }
for _, id in ipairs(call('ZRANGE', due, '-inf', nowMs, 'BYSCORE', 'LIMIT', 0, most)) do
  local before = pending(id)
  local entry = call('XCLAIM', entries, GROUP, owner, 0, id, 'FORCE')[1]
  dueIn(id, leaseMs)
  answer[#answer + 1] = id
  answer[#answer + 1] = call('HGET', changed, id) or entry[2][2]
  answer[#answer + 1] = before and 1 or 0
end
local following = call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
if following then answer[1] = math.max(0, tonumber(following) - nowMs) end
return answer
`,
);

/**
 * Ends claims. Those that are somebody else's by now stay as they are.
 *
 * ARGV  owner, delay in ms, or nothing to remove the entries; then of each its id, and its new envelope or nothing
 */
export const SETTLE: Script = script(
  'settle',
  `${COMMON_LUA}
if call('EXISTS', entries) == 0 then return end
local owner, delayMs = ARGV[1], tonumber(ARGV[2])
for index = 3, #ARGV, 2 do
  local id, envelope = ARGV[index], ARGV[index + 1]
  local found = pending(id)
  if found and found[2] == owner then
    if not delayMs then
      call('XACK', entries, GROUP, id)
      call('XDEL', entries, id)
      call('ZREM', due, id)
      call('HDEL', changed, id)
    else
      call('XCLAIM', entries, GROUP, NOBODY, 0, id, 'JUSTID')
      dueIn(id, delayMs)
      if envelope ~= '' then call('HSET', changed, id, envelope) end
    end
  end
end
`,
);

/** gives how many entries there are, and for how many ms the oldest */
export const DEPTH: Script = script(
  'depth',
  `${COMMON_LUA}
local oldest = call('XRANGE', entries, '-', '+', 'COUNT', 1)[1]
if not oldest then return { 0, 0 } end
return { call('XLEN', entries), math.max(0, nowMs - tonumber(string.match(oldest[1], '^%d+'))) }
`,
);

/** Forgets an owner, and those that died long ago. ARGV owner, how long the others were silent, in ms. */
export const FORGET: Script = script(
  'forget',
  `${COMMON_LUA}
if call('EXISTS', entries) == 0 then return end
call('XGROUP', 'DELCONSUMER', entries, GROUP, ARGV[1])
for _, facts in ipairs(call('XINFO', 'CONSUMERS', entries, GROUP)) do
  local fact = {}
  for index = 1, #facts, 2 do fact[facts[index]] = facts[index + 1] end
  if fact.name ~= NOBODY and fact.pending == 0 and fact.idle > tonumber(ARGV[2]) then
    call('XGROUP', 'DELCONSUMER', entries, GROUP, fact.name)
  end
end
`,
);
