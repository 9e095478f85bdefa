/**
 * The one script of the lease store: a list of claims, renewals and drops, each atomic, in one call.
 *
 * KEYS  epoch; then for each operation: lock, members, order (all in one hash slot)
 * ARGV  channel of this process; then for each operation its kind, its owner, and
 *       c  units, capacity, ttl in ms, 1 to wait              claim
 *       r                                                     renew
 *       d                                                     drop
 *       a  owner, units, capacity, ttl in ms, 1 to wait       drop, and claim again
 * gives the answer of each operation; a claim that found nothing at all is answered by its epoch alone
 *
 * Two shortcuts do what nearly every call needs, a claim of a free key and a drop that nobody waits for, without the
 * functions of key.ts, since a server makes those anew in each call. Epochs are reserved for all operations at once, so
 * that one call writes them once.
 */
import { CLAIM_LUA } from './claim.ts';
import { DROP_LUA } from './drop.ts';
import { FRAME_LUA } from './frame.ts';
import { KEY_LUA } from './key.ts';
import { RENEW_LUA } from './renew.ts';
import { type Script, script } from './script.ts';

export const STEP: Script = script(
  'step',
  `${FRAME_LUA}
local function library()
${KEY_LUA}${CLAIM_LUA}${RENEW_LUA}${DROP_LUA}
  return function(at, kind, owner, cursor)
    local notALock = use(KEYS[at], KEYS[at + 1], KEYS[at + 2])
    if notALock then
      if kind == 'c' then return { 4, notALock } end
      if kind ~= 'r' then remove(owner) tidy() end
      return 0
    end
    local function claimFrom(first)
      return claim(ARGV[first], tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2]),
        tonumber(ARGV[first + 3]), ARGV[first + 4] == '1')
    end
    local answer
    if kind == 'c' then answer = claimFrom(cursor + 1)
    elseif kind == 'r' then answer = renew(owner)
    else answer = drop(owner, kind == 'a' and function() return claimFrom(cursor + 2) end) end
    tidy()
    return answer
  end
end

local run
local answers = {}
local renewed = false
local cursor = 2
for index = 1, operations do
  local at = 3 * index - 1
  local lock, members = KEYS[at], KEYS[at + 1]
  local kind, owner = ARGV[cursor], ARGV[cursor + 1]
  local answer
  if kind == 'c' then
    local all, ttl = ARGV[cursor + 3], ARGV[cursor + 4]
    if ARGV[cursor + 2] == all and call('EXISTS', lock, members) == 0 then
      answer = mint()
      local value = table.concat({ owner, text(answer), all, ttl, channel }, ' ')
      call('SET', lock, value, 'PX', ttl)
    end
  elseif kind == 'd' and call('EXISTS', members) == 0 then
    local value = redis.pcall('GET', lock)
    if type(value) == 'string' and string.sub(value, 1, #owner + 1) == owner .. ' ' then
      call('DEL', lock)
      answer = 1
    else
      answer = 0
    end
  end
  if not answer then
    run = run or library()
    answer = run(at, kind, owner, cursor)
  end
  answers[index] = answer
  renewed = renewed or kind == 'r'
  cursor = cursor + (kind == 'c' and 6 or kind == 'a' and 7 or 2)
end
-- A lease that is held for longer than a day must not outlive the memory of its epoch.
if renewed then call('PEXPIRE', KEYS[1], EPOCH_MEMORY_MS) end
return answers
`,
);
