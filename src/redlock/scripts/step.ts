/**
 * What one node does for Redlock: a list of operations, each atomic, in one call.
 *
 * KEYS  marker, epochs; then for each operation: lock, members, order
 * ARGV  channel of this process, 1 when durable, the client's longest ttl in ms; then for each operation its kind, its
 *       owner, and
 *       c  epoch, slot, capacity, ttl in ms, 1 to wait          claim with a proposed epoch
 *       r  epoch, ttl in ms                                     renew
 *       f  epoch, slot, capacity, ttl in ms                     fill in: the owner holds a majority of the other nodes
 *       l  epoch, capacity, ttl in ms, 1 to wait                end an attempt that was lost, and queue for the next
 *       d                                                       drop
 *       a  owner, epoch, slot, capacity, ttl in ms, 1 to wait   drop, and claim again
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
 *
 * The highest epochs are fields of one hash, one for each hash slot (as a cluster counts them) of the names, so that
 * they need no expiry and take no more than some megabyte. Names that share a slot share their epochs.
 */
import { KEY_LUA } from '../../redis/scripts/key.ts';
import { type Script, script } from '../../redis/scripts/script.ts';
import { MARKER_LUA } from './marker.ts';

export const STEP: Script = script(
  'redlock',
  `
${MARKER_LUA}
local SHARED = 'leasehold:shared'
local channel = ARGV[1]
local mayVote, floor, abstainsMs
local nowMs

-- Nil when the node votes, else the answer of who abstains.
local function abstention()
  if mayVote == nil then
    local _, state, since, longest, low = standing(KEYS[1], ARGV[2] == '1', tonumber(ARGV[3]))
    mayVote, floor = state == 'votes', low
    if not mayVote then abstainsMs = math.max(0, since + longest - timeMs()) end
  end
  if not mayVote then return { 4, abstainsMs } end
  return nil
end

local function highest(slot)
  return math.max(floor or 0, tonumber(call('HGET', KEYS[2], slot) or '0'))
end

local function accept(lockKey, owner, epoch, slot, all, ttl)
  local value = table.concat({ owner, epoch, all, ttl, channel }, ' ')
  call('HSET', KEYS[2], slot, epoch)
  call('SET', lockKey, value, 'PX', ttl)
end

local function library()
  nowMs = timeMs()
  -- Epochs come from the clients here.
  local function epochNow() return 0 end
  local function mint() return 0 end
${KEY_LUA}
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
    else
      enqueue(owner, all, ttl)
    end
  end

  local function busy(owner, slot, all, ttl, wait)
    local isFree = not value
    local isForeign = value and value ~= SHARED and not holder
    local name = tellHolders(math.huge)
    local ahead, endsMs = 0, -1
    if wait then
      queue(owner, all, ttl)
      ahead = call('ZRANK', order, 'q' .. owner)
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
    accept(lock, owner, epoch, slot, all, ttl)
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
    accept(lock, owner, epoch, slot, all, ttl)
    if known > tonumber(epoch) then call('HSET', KEYS[2], slot, text(known)) end
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
    if wasHeld then wake(epoch) end
    if wait then queue(owner, all, ttl) end
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

  return function(at, kind, owner, cursor)
    local notALock = use(KEYS[at], KEYS[at + 1], KEYS[at + 2])
    if notALock then
      if kind == 'd' or kind == 'a' then
        remove(owner)
        tidy()
      end
      return kind == 'c' and { 3, notALock } or 0
    end
    local answer
    local a, b, c, d, e = unpack(ARGV, cursor + 2, cursor + 6)
    if kind == 'c' then answer = claim(owner, a, b, c, d, e == '1')
    elseif kind == 'r' then answer = renew(owner, a, b)
    elseif kind == 'f' then answer = fill(owner, a, b, c, d)
    elseif kind == 'l' then answer = lose(owner, a, tonumber(b), tonumber(c), d == '1')
    else
      answer = drop(owner)
      if kind == 'a' and answer == 1 then
        local wait = ARGV[cursor + 7] == '1'
        answer = { 1, abstention() or claim(a, b, c, d, e, wait) }
      end
    end
    tidy()
    return answer
  end
end

-- What nearly every call needs, without the functions of the library, which a server makes anew in each call. Nobody
-- waits for the lock.
local function short(lockKey, kind, owner, cursor)
  if kind == 'c' then
    if call('EXISTS', lockKey) == 1 then return nil end
    local epoch, slot = ARGV[cursor + 2], ARGV[cursor + 3]
    local known = highest(slot)
    if tonumber(epoch) <= known then return { 2, text(known) } end
    accept(lockKey, owner, epoch, slot, ARGV[cursor + 4], ARGV[cursor + 5])
    return 0
  end
  if kind ~= 'd' and kind ~= 'r' then return nil end
  local value = redis.pcall('GET', lockKey)
  local isDrop = kind == 'd'
  local start = isDrop and owner .. ' ' or owner .. ' ' .. ARGV[cursor + 2] .. ' '
  if type(value) ~= 'string' or string.sub(value, 1, #start) ~= start then return 0 end
  if isDrop then call('DEL', lockKey) else call('PEXPIRE', lockKey, ARGV[cursor + 3]) end
  return 1
end

local LENGTHS = { c = 7, r = 4, f = 6, l = 6, d = 2, a = 8 }
local run
local answers = {}
local cursor = 4
for index = 1, (#KEYS - 2) / 3 do
  local at = 3 * index
  local kind, owner = ARGV[cursor], ARGV[cursor + 1]
  local answer
  if kind == 'c' or kind == 'f' then answer = abstention() end
  if not answer and call('EXISTS', KEYS[at + 1]) == 0 then
    answer = short(KEYS[at], kind, owner, cursor)
  end
  if not answer then
    run = run or library()
    answer = run(at, kind, owner, cursor)
  end
  answers[index] = answer
  cursor = cursor + LENGTHS[kind]
end
return answers
`,
);
