/**
 * What one node does for Redlock: a list of operations, each atomic, in one call.
 *
 * KEYS  the lock of each operation. What stands beside it is named in here, since it is always on the same master
 * ARGV  of each operation its kind and the words for it
 *       n <slot> <epoch> <ttl in ms> <value>   claim, for a new owner value, with a proposed epoch; the value,
 *                                              `owner epoch capacity ttl channel`, is kept at the lock as it is
 *       c, as n                                claim for an owner value that may wait here already
 *       f, as n                                fill in: the owner holds a majority of the others
 *       l, as n                                end an attempt that was lost, and queue
 *       N, C, L                                as n, c and l, but never queue
 *       r <ttl in ms> <value>                  renew
 *       d <value>                              drop what is held
 *       o <owner> <channel>                    drop whatever the owner has here
 *       a <owner>, and c with all of its own   drop, and claim again
 *       A single n or d comes without its kind, for each argument costs client and server more than the words say
 * gives the answer of each operation, and of a single one just that:
 *       n, c  0 accepted; 1 accepted, and wanted; 2 and 3 the same where the run id had to be compared: see vouch.ts
 *             {1, ms until the lease ends by itself or -1 when another waiter looks at that, ahead, holder, highest epoch,
 *               1 when nobody will tell that it is free, 1 when a message would reach this process}     busy
 *             {2, highest epoch}                                                                        proposed too low
 *             {3, what is there}                                                                        not a lock
 *             {4, ms}                                                                                   abstains
 *       r     0 not held here; 1 held; 2 held, and wanted
 *       d, o  1 when it was held, else 0
 *       a     0, or {1, the answer to the claim}
 *
 * Waiters and holders are kept as redis/scripts/key.ts describes it, but nobody is granted anything here by somebody
 * else's drop: no node knows whether the others would agree. The first waiter that listens is told to claim.
 *
 * What nearly every call needs comes first and asks for nothing but the lock: a claim of a free lock, and a renewal or a drop
 * of one that nobody waits for. The lock itself says what else there is. Whoever queues marks the holder's value as WANTED,
 * which is then none that its holder sends. Whoever drops a lock that others wait for leaves RESERVED in its place, which
 * is not free for newcomers, for as long as it takes the one that was told to claim. The rest is in functions, which a
 * server makes anew in each run that comes to them.
 */
import { KEY_LUA } from '../../redis/scripts/key.ts';
import { type Script, script } from '../../redis/scripts/script.ts';
import { IS_TRUSTED, MEMORY_LUA, STANDING_LUA } from './marker.ts';

/** The script for clients of one field (see marker.ts): there are few. */
export function newStep(field: string): Script {
  return script('redlock', STEP_LUA.replaceAll(FIELD, field));
}

const FIELD = '<field>';

/** Given by a function without upvalues, made only in runs that come to it. Its variables last as long as the run. */
const LIBRARY_LUA = `
local call = redis.call
${MEMORY_LUA}local FIELD = '${FIELD}'
local floor
${STANDING_LUA}
  -- Of the process that makes the operation.
  local channel
  local SHARED, MEMBERS = 'leasehold:shared', 'leasehold:m:'
  -- How long newcomers, and clients of other kinds, leave a lock to the waiter that was told, in milliseconds.
  local RESERVE_MS = 1000
  local refusal, isReserved, isUnvouched

  -- Nil when the node votes, else the answer of who abstains.
  local function abstention()
    if floor or refusal then return refusal end
    local known = call('HMGET', MEMORY, 'node', FIELD)
    local marker, witness = known[1], known[2]
    if marker and ${IS_TRUSTED} then
      floor = tonumber(string.match(marker, '^votes %d+ (%d+) '))
    end
    if floor then return nil end
    local _, state, since, longest, low, timeMs = standing(FIELD)
    if state == 'votes' then
      floor, isUnvouched = low, string.byte(FIELD) == 119
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
  -- Owner, epoch, capacity, and ttl.
  local function readKept(kept)
    local owner, epoch, all, ttl
    owner, epoch, all, ttl, channel = string.match(kept, '^(.*) (%d+) (%d+) (%d+) (%S+)$')
    return owner, epoch, all, ttl
  end

  -- The claim of that kind whose words come behind.
  local function readClaim(kind, at)
    local kept = ARGV[at + 4]
    local owner, epoch, all, ttl = readKept(kept)
    return {
      slot = ARGV[at + 1], epoch = epoch, ttl = ttl, kept = kept, owner = owner,
      capacity = tonumber(all), ttlMs = tonumber(ttl), wait = kind == string.lower(kind)
    }
  end

  local function isHolder(owner, epoch)
    return holder and holder.owner == owner and (not epoch or holder.epoch == epoch)
  end

  local function free()
    call('DEL', lock)
    value, holder, isReserved = false, nil, false
  end

  -- The lock is free, and somebody waits for it.
  local function reserve()
    call('SET', lock, RESERVED, 'PX', RESERVE_MS)
    isReserved = true
  end

  -- Whoever it was kept for has left.
  local function unreserve()
    if isReserved and not waiterAt(0) then free() end
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
    if not waiter then return end
    reserve()
    tell(waiter.channel, { 'available', lock, epoch })
  end

  local function queue(attempt, isQueued)
    local owner, ttlMs = attempt.owner, attempt.ttlMs
    if holder and not holder.isMarked then
      value = value .. WANTED
      holder.isMarked = true
      call('SET', lock, value, 'KEEPTTL')
    end
    capacity = capacity or attempt.capacity
    if not isQueued then return enqueue(owner, attempt.capacity, ttlMs) end
    write(owner, waiterRecord(attempt.capacity, ttlMs), nowMs + ttlMs + 1)
    keepFor(ttlMs)
    return call('ZRANK', order, 'q' .. owner)
  end

  local function busy(attempt, isQueued)
    local isFree = not value
    local isForeign = value and value ~= SHARED and not holder
    local name = tellHolders(math.huge)
    local ahead, endsMs = 0, -1
    if attempt.wait then
      ahead = queue(attempt, isQueued)
      endsMs = endsInMs(ahead)
    else
      if isQueued then remove(attempt.owner) end
      unreserve()
    end
    local isHeard = isListening(channel)
    return { 1, endsMs, ahead, name, text(highest(attempt.slot)),
      (isFree or isForeign) and 1 or 0, isHeard and 1 or 0 }
  end

  -- True when another process waits.
  local function accept(attempt, isQueued, epoch)
    if isQueued then remove(attempt.owner) end
    local isWaitedFor = waiterAt(0)
    call('HSET', MEMORY, attempt.slot, epoch)
    call('SET', lock, isWaitedFor and attempt.kept .. WANTED or attempt.kept, 'PX', attempt.ttl)
    return isWaitedFor and isWanted(channel)
  end

  local function claim(attempt)
    local owner = attempt.owner
    local isQueued = prune(owner)
    if isHolder(owner, attempt.epoch) then
      call('PEXPIRE', lock, attempt.ttl)
      return isWanted(channel) and 1 or 0
    end
    -- An older attempt of the same claim is over; its end has not come here yet.
    local isFree = not value or isHolder(owner)
    if not isFree or (not isQueued and nextWaiter()) then return busy(attempt, isQueued) end
    local known = highest(attempt.slot)
    if tonumber(attempt.epoch) <= known then return { 2, text(known) } end
    local isNotAlone = accept(attempt, isQueued, attempt.epoch)
    return (isNotAlone and 1 or 0) + (isUnvouched and 2 or 0)
  end

  local function fill(attempt)
    local isQueued = prune(attempt.owner)
    if value and not isHolder(attempt.owner) then return 0 end
    -- A higher epoch may have been refused by the others: it stays the highest here.
    accept(attempt, isQueued, text(math.max(highest(attempt.slot), tonumber(attempt.epoch))))
    return 1
  end

  local function lose(attempt)
    local wasHeld = isHolder(attempt.owner, attempt.epoch)
    if wasHeld then free() end
    local isQueued = prune(attempt.owner)
    -- Who lost a tie is not told by the other: both would claim at once, and tie again.
    if attempt.wait then
      queue(attempt, isQueued)
      if wasHeld then reserve() end
    elseif wasHeld then
      wake(attempt.epoch)
    end
    return wasHeld and 1 or 0
  end

  local function renew(kept, ttl)
    local owner, epoch = readKept(kept)
    if not isHolder(owner, epoch) then return 0 end
    call('PEXPIRE', lock, ttl)
    return isWanted(channel) and 2 or 1
  end

  local function drop(owner)
    local epoch = isHolder(owner) and holder.epoch
    if epoch then free() end
    remove(owner)
    prune(owner)
    if epoch then wake(epoch) else unreserve() end
    return epoch and 1 or 0
  end

  return function(index, kind, at)
    local isClaim = string.find(kind, '^[nNcC]')
    local isDrop = string.find(kind, '^[doa]')
    local owner, attempt
    if kind == 'd' then owner = readKept(ARGV[at + 1])
    elseif kind == 'o' then owner, channel = ARGV[at + 1], ARGV[at + 2]
    elseif kind == 'a' then owner, attempt = ARGV[at + 1], readClaim(ARGV[at + 2], at + 2)
    elseif kind ~= 'r' then attempt = readClaim(kind, at) end
    local refused = (isClaim or kind == 'f') and abstention()
    if refused then return refused end
    local name = KEYS[index]
    local notALock = use(name, MEMBERS .. name, 'leasehold:o:' .. name)
    isReserved = value == RESERVED
    if isReserved then value = false end
    if notALock then
      if isDrop then
        remove(owner)
        tidy()
      end
      return isClaim and { 3, notALock } or 0
    end
    local answer
    if isClaim then answer = claim(attempt)
    elseif kind == 'r' then answer = renew(ARGV[at + 2], ARGV[at + 1])
    elseif kind == 'f' then answer = fill(attempt)
    elseif isDrop then
      answer = drop(owner)
      if kind == 'a' and answer == 1 then answer = { 1, abstention() or claim(attempt) } end
    else answer = lose(attempt) end
    tidy()
    return answer
  end
`;

const STEP_LUA = `
local call = redis.call
${MEMORY_LUA}local FIELD = '${FIELD}'
local operations = #KEYS
local answers, run
local cursor = 1
local implied = operations == 1 and (#ARGV == 1 and 'd' or #ARGV == 4 and 'n')
for index = 1, operations do
  local lock, kind, at = KEYS[index], implied, 0
  if not kind then kind, at = ARGV[cursor], cursor end
  local answer
  if kind == 'd' then
    cursor = cursor + 2
    if redis.pcall('GET', lock) == ARGV[at + 1] then
      call('DEL', lock)
      answer = 1
    end
  elseif kind == 'n' or kind == 'N' then
    cursor = cursor + 5
    local slot, epoch = ARGV[at + 1], ARGV[at + 2]
    -- First, since that is what fails where somebody has it or waits, and then all the rest was for nothing.
    if call('SET', lock, ARGV[at + 4], 'NX', 'PX', ARGV[at + 3]) then
      local known = call('HMGET', MEMORY, FIELD, slot)
      local witness, highest = known[1], known[2]
      if highest and tonumber(epoch) > tonumber(highest) and ${IS_TRUSTED} then
        call('HSET', MEMORY, slot, epoch)
        answer = 0
      else
        call('DEL', lock)
      end
    end
  elseif kind == 'r' then
    cursor = cursor + 3
    if redis.pcall('GET', lock) == ARGV[at + 2] then
      call('PEXPIRE', lock, ARGV[at + 1])
      answer = 1
    end
  else
    cursor = cursor + ((kind == 'o' and 3) or (kind == 'a' and 7) or 5)
  end
  if not answer then
    run = run or (function()
${LIBRARY_LUA}
    end)()
    answer = run(index, kind, at)
  end
  if operations == 1 then return answer end
  answers = answers or {}
  answers[index] = answer
end
return answers
`;
