/**
 * The one script of the lease store: a list of claims, renewals and drops, each atomic, in one call.
 *
 * KEYS  epoch; the lock of each operation; the members of each; the order of each (all in one hash slot)
 * ARGV  channel of this process; then for each operation one text
 *       c<units> <capacity> <ttl in ms> <1 to wait> <owner>   claim
 *       r<owner>                                              renew
 *       d<owner>                                              drop
 *       a<owner>, and a second text, c…                       drop, and claim again
 * gives the answer of each operation; a claim that found nothing at all is answered by its epoch alone
 *
 * Shortcuts do what nearly every call needs, a claim of a free key, and a renewal or a drop of a lock that nobody waits
 * for, without the functions of key.ts, since a server makes those anew in each call; pair.ts has two more, for a key that
 * two processes want. The first hold for a key without members, which is asked once for all keys, and for each only when one has some. Epochs are reserved for all operations
 * at once, so that one call writes them once. An operation is one text, since what a client spends on a call grows with
 * the number of its arguments.
 */
import { CLAIM_LUA } from './claim.ts';
import { DROP_LUA } from './drop.ts';
import { FRAME_LUA } from './frame.ts';
import { KEY_LUA } from './key.ts';
import { PAIR_LUA } from './pair.ts';
import { RENEW_LUA } from './renew.ts';
import { type Script, script } from './script.ts';

export const STEP: Script = script(
  'step',
  `${FRAME_LUA}
local function readClaim(operation)
  return string.match(operation, '^c(%d+) (%d+) (%d+) ([01]) (.*)$')
end

local function library()
${KEY_LUA}${CLAIM_LUA}${RENEW_LUA}${DROP_LUA}
  local function claimAs(operation)
    local units, all, ttl, wait, owner = readClaim(operation)
    return claim(owner, tonumber(units), tonumber(all), tonumber(ttl), wait == '1')
  end
  return function(index, kind, owner, operation, again)
    local at = index + 1
    local notALock = use(KEYS[at], KEYS[at + operations], KEYS[at + 2 * operations])
    if notALock then
      if kind == 'c' then return { 4, notALock } end
      if kind ~= 'r' then remove(owner) tidy() end
      return 0
    end
    local answer
    if kind == 'c' then answer = claimAs(operation)
    elseif kind == 'r' then answer = renew(owner)
    else answer = drop(owner, again and function() return claimAs(again) end) end
    tidy()
    return answer
  end
end

local function pair()
${PAIR_LUA}
end

-- One drop that claims again is made because somebody waits.
local isQuiet = (operations > 1 or string.sub(ARGV[2], 1, 1) ~= 'a')
  and call('EXISTS', unpack(KEYS, operations + 2, 2 * operations + 1)) == 0

local function claimFree(lock, operation)
  local units, all, ttl, wait, owner = readClaim(operation)
  if units ~= all then return nil end
  local epoch = mint()
  local value = owner .. ' ' .. text(epoch) .. ' ' .. all .. ' ' .. ttl .. ' ' .. channel
  if call('SET', lock, value, 'NX', 'PX', ttl) then return epoch end
  -- Nobody has this one: it is the next.
  lastEpoch = epoch - 1
  return nil
end

local function endOrExtend(lock, kind, owner)
  local value = redis.pcall('GET', lock)
  if type(value) ~= 'string' or string.sub(value, 1, #owner + 1) ~= owner .. ' ' then return 0 end
  local ttl = string.match(value, '^%d+ %d+ (%d+) leasehold:%S+$', #owner + 2)
  if not ttl then return 0 end
  if kind == 'd' then call('DEL', lock) else call('PEXPIRE', lock, ttl) end
  return 1
end

local run, waitAlone, handOver
local answers = {}
local renewed = false
local cursor = 1
for index = 1, operations do
  cursor = cursor + 1
  local operation, again = ARGV[cursor], nil
  local kind, owner, answer = string.sub(operation, 1, 1), nil, nil
  local isAlone = isQuiet or (operations > 1 and call('EXISTS', KEYS[index + 1 + operations]) == 0)
  if kind == 'c' then
    answer = isAlone and claimFree(KEYS[index + 1], operation)
  else
    owner = string.sub(operation, 2)
    if kind == 'a' then
      cursor = cursor + 1
      again = ARGV[cursor]
    elseif isAlone then
      answer = endOrExtend(KEYS[index + 1], kind, owner)
    end
  end
  if not answer then
    if not waitAlone then waitAlone, handOver = pair() end
    if kind == 'c' then
      answer = isAlone and waitAlone(index + 1, operation)
    elseif kind ~= 'r' and not isAlone then
      answer = handOver(index + 1, owner, again)
    end
    isQuiet = false
  end
  if not answer then
    run = run or library()
    answer = run(index, kind, owner, operation, again)
  end
  answers[index] = answer
  renewed = renewed or kind == 'r'
end
-- A lease that is held for longer than a day must not outlive the memory of its epoch.
if renewed then call('PEXPIRE', KEYS[1], EPOCH_MEMORY_MS) end
return answers
`,
);
