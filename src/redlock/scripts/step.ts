/**
 * What one node does for Redlock: a list of operations, each atomic, in one call.
 *
 * KEYS  the lock of each operation. What stands beside it is named in here, since it is always on the same master, and each
 *       further argument costs client and server more than that does
 * ARGV  channel of this process; 1 when durable, the client's longest ttl in ms and its witness (see marker.ts) in one text;
 *       then for each operation one text
 *       c<slot> <epoch> <ttl in ms> <1 to wait> <owner> <epoch> <capacity> <ttl in ms>
 *                                      claim with a proposed epoch; what comes last is kept at the lock as it is
 *       r<ttl in ms> <owner> <epoch>   renew
 *       f, as c                        fill in: the owner holds a majority of the others
 *       l, as c                        end an attempt that was lost, and queue
 *       d<owner>                       drop
 *       a<owner>, and a second text    drop, and claim again as c does
 * gives the answer of each operation:
 *       c  0 accepted; 1 accepted, and wanted
 *          {1, ms until the lease ends by itself or -1 when another waiter looks at that, ahead, holder, highest epoch,
 *            1 when nobody will tell that it is free, 1 when a message would reach this process}     busy
 *          {2, highest epoch}                                                                        proposed too low
 *          {3, what is there}                                                                        not a lock
 *          {4, ms}                                                                                   abstains
 *       r  0 not held here; 1 held; 2 held, and wanted
 *       d  1 when it was held, else 0
 *       a  0, or {1, the answer to the claim}
 *
 * Waiters and holders are kept as redis/scripts/key.ts describes it, but nobody is granted anything here by somebody
 * else's drop: no node knows whether the others would agree. The first waiter that listens is told to claim.
 */
import { KEY_LUA } from '../../redis/scripts/key.ts';
import { type Script, script } from '../../redis/scripts/script.ts';
import { STANDING_LUA, TRUSTED_LUA } from './marker.ts';

export const STEP: Script = script(
  'redlock',
  `
local call = redis.call
local channel = ARGV[1]
local MEMBERS = 'leasehold:m:'
local CLAIM, DROP, RENEW, SWAP = string.byte('cdra', 1, 4)
local operations = #KEYS
local floor
${TRUSTED_LUA}
-- What nearly every call needs, a claim of a free lock, and a renewal or a drop of one that nobody waits for. The rest is
-- in functions, which a server makes anew in each call.
local function quick(lock, operation)
  local kind = string.byte(operation)
  if kind == CLAIM then
    local slot, epoch, ttl, kept = string.match(operation, '^c(%d+) (%d+) (%d+) [01] (.*)$')
    local known = call('HMGET', MEMORY, 'node', slot)
    floor = floor or trusted(known[1], ARGV[2])
    local proposed = tonumber(epoch)
    if not floor or proposed <= floor or proposed <= tonumber(known[2] or '0') then return nil end
    if not call('SET', lock, kept .. ' ' .. channel, 'NX', 'PX', ttl) then return nil end
    call('HSET', MEMORY, slot, epoch)
    return 0
  end
  local start, ttl
  if kind == DROP then
    start = string.sub(operation, 2)
  elseif kind == RENEW then
    ttl, start = string.match(operation, '^r(%d+) (.*)$')
  else
    return nil
  end
  start = start .. ' '
  local value = redis.pcall('GET', lock)
  if type(value) ~= 'string' or string.sub(value, 1, #start) ~= start then return 0 end
  if ttl then call('PEXPIRE', lock, ttl) else call('DEL', lock) end
  return 1
end

local function library()
${STANDING_LUA}
  local function read(operation)
    return string.match(operation, '^%a(%d+) (%d+) (%d+) ([01]) (.*) %d+ (%d+) %d+$')
  end

  local SHARED = 'leasehold:shared'
  local refusal

  -- Nil when the node votes, else the answer of who abstains.
  local function abstention()
    if floor or refusal then return refusal end
    floor = trusted(call('HGET', MEMORY, 'node'), ARGV[2])
    if floor then return nil end
    local _, state, since, longest, low, _, timeMs = standing(ARGV[2])
    if state == 'votes' then
      floor = low
    else
      refusal = { 4, math.max(0, since + longest - timeMs()) }
    end
    return refusal
  end

  local function highest(slot)
    return math.max(floor, tonumber(call('HGET', MEMORY, slot) or '0'))
  end

  local time = call('TIME')
  local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
  -- Epochs come from the clients here.
  local function epochNow() return 0 end
  local function mint() return 0 end
${KEY_LUA}
  local function accept(owner, epoch, slot, all, ttl)
    call('HSET', MEMORY, slot, epoch)
    call('SET', lock, table.concat({ owner, epoch, all, ttl, channel }, ' '), 'PX', ttl)
  end

  local function isHolder(owner, epoch)
    return holder and holder.owner == owner and (not epoch or holder.epoch == epoch)
  end

  -- The first waiter of another process that listens.
  local function nextWaiter()
    local index = 0
    local owner = waiterAt(index)
    while owner do
      local record = recordOf(owner)
      if record and record.channel ~= channel and isListening(record.channel) then return record end
      index = index + 1
      owner = waiterAt(index)
    end
    return nil
  end

  local function wake(epoch)
    local waiter = nextWaiter()
    if waiter then tell(waiter.channel, { 'available', lock, epoch }) end
  end

  local function queue(owner, all, ttl)
    capacity = capacity or all
    if recordOf(owner) then
      write(owner, waiterRecord(all, ttl), nowMs + ttl + 1)
      keepFor(ttl)
      return call('ZRANK', order, 'q' .. owner)
    end
    return enqueue(owner, all, ttl)
  end

  local function busy(owner, slot, all, ttl, wait)
    local isFree = not value
    local isForeign = value and value ~= SHARED and not holder
    local name = tellHolders(math.huge)
    local ahead, endsMs = 0, -1
    if wait then
      ahead = queue(owner, all, ttl)
      endsMs = endsInMs(ahead)
    else
      remove(owner)
    end
    local isHeard = isListening(channel)
    return { 1, endsMs, ahead, name, text(highest(slot)),
      (isFree or isForeign) and 1 or 0, isHeard and 1 or 0 }
  end

  local function claim(owner, epoch, slot, all, ttl, wait)
    prune(owner)
    if isHolder(owner, epoch) then
      call('PEXPIRE', lock, ttl)
      return isWanted(channel) and 1 or 0
    end
    -- An older attempt of the same claim is over; its end has not come here yet.
    local isFree = not value or isHolder(owner)
    if not isFree or (not recordOf(owner) and nextWaiter()) then
      return busy(owner, slot, tonumber(all), tonumber(ttl), wait)
    end
    local known = highest(slot)
    if tonumber(epoch) <= known then return { 2, text(known) } end
    remove(owner)
    accept(owner, epoch, slot, all, ttl)
    return isWanted(channel) and 1 or 0
  end

  local function renew(owner, epoch, ttl)
    if not isHolder(owner, epoch) then return 0 end
    call('PEXPIRE', lock, ttl)
    return isWanted(channel) and 2 or 1
  end

  local function fill(owner, epoch, slot, all, ttl)
    prune(owner)
    if value and not isHolder(owner) then return 0 end
    -- A higher epoch may have been refused by the others: it stays the highest here.
    local known = highest(slot)
    accept(owner, epoch, slot, all, ttl)
    if known > tonumber(epoch) then call('HSET', MEMORY, slot, text(known)) end
    return 1
  end

  local function free()
    call('DEL', lock)
    value, holder = false, nil
  end

  local function lose(owner, epoch, all, ttl, wait)
    local wasHeld = isHolder(owner, epoch)
    if wasHeld then free() end
    prune(owner)
    -- Who lost a tie is not told by the other: both would claim at once, and tie again.
    if wait then queue(owner, all, ttl) elseif wasHeld then wake(epoch) end
    return wasHeld and 1 or 0
  end

  local function drop(owner)
    local epoch = isHolder(owner) and holder.epoch
    if epoch then free() end
    remove(owner)
    prune(owner)
    if epoch then wake(epoch) end
    return epoch and 1 or 0
  end

  return function(index, operation, again)
    local kind = string.sub(operation, 1, 1)
    local refused = (kind == 'c' or kind == 'f') and abstention()
    if refused then return refused end
    local name = KEYS[index]
    local notALock = use(name, MEMBERS .. name, 'leasehold:o:' .. name)
    local owner = string.sub(operation, 2)
    local epoch, slot, all, ttl, wait
    if kind == 'r' then ttl, owner, epoch = string.match(operation, '^r(%d+) (.*) (%d+)$')
    elseif kind ~= 'd' and kind ~= 'a' then
      slot, epoch, ttl, wait, owner, all = read(operation)
    end
    if notALock then
      if kind == 'd' or kind == 'a' then
        remove(owner)
        tidy()
      end
      return kind == 'c' and { 3, notALock } or 0
    end
    local answer
    if kind == 'c' then answer = claim(owner, epoch, slot, all, ttl, wait == '1')
    elseif kind == 'r' then answer = renew(owner, epoch, ttl)
    elseif kind == 'f' then answer = fill(owner, epoch, slot, all, ttl)
    elseif kind == 'l' then answer = lose(owner, epoch, tonumber(all), tonumber(ttl), wait == '1')
    else
      answer = drop(owner)
      if again and answer == 1 then
        slot, epoch, ttl, wait, owner, all = read(again)
        answer = { 1, abstention() or claim(owner, epoch, slot, all, ttl, wait == '1') }
      end
    end
    tidy()
    return answer
  end
end

local isQuiet, names
if operations == 1 then
  isQuiet = call('EXISTS', MEMBERS .. KEYS[1]) == 0
else
  names = {}
  for index = 1, operations do names[index] = MEMBERS .. KEYS[index] end
  isQuiet = call('EXISTS', unpack(names)) == 0
end
local run
local answers = {}
local cursor = 2
for index = 1, operations do
  cursor = cursor + 1
  local operation, again = ARGV[cursor], nil
  if string.byte(operation) == SWAP then
    cursor = cursor + 1
    again = ARGV[cursor]
  end
  local isAlone = isQuiet or (names and call('EXISTS', names[index]) == 0)
  local answer = isAlone and quick(KEYS[index], operation)
  if not answer then
    isQuiet = false
    run = run or library()
    answer = run(index, operation, again)
  end
  answers[index] = answer
end
return answers
`,
);
