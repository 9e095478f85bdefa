/**
 * The lease state of one key on a Redis server: what the scripts for claim, renew and drop have in common. It mirrors
 * `core/key-state.ts`, and a test runs both side by side.
 *
 * Four keys, all in one hash slot:
 *
 * | key     | type   | holds                                                                                         |
 * |---------|--------|-----------------------------------------------------------------------------------------------|
 * | lock    | string | `owner epoch capacity ttl channel` of an exclusive holder, or SHARED; its expiry is the lease's.  |
 * |         |        | Behind that, Redlock keeps WANTED while somebody waits, and RESERVED in its place after a drop  |
 * | epoch   | string | the last epoch that was minted; shared by many locks                                          |
 * | members | hash   | `c` capacity, `u` units in use by shared holders, `a` last arrival number, `=owner` a record   |
 * | order   | zset   | `q` owner: a waiter by its arrival number; `d` owner: when a member counts as dead             |
 *
 * A record is `w units ttl channel` of a waiter, or `h units ttl channel epoch` of a shared holder. An exclusive lock
 * that nobody waits for is the lock key alone, so that the common case costs no more than a plain `SET`. The lock key is
 * the truth: shared holders without SHARED there are void, because somebody else may have it. Nothing in here may fail
 * after the first write, since a script is not rolled back; and every step deletes before it sets, because a server out
 * of memory accepts a script's writes only after a write that frees. A hand-over finds the code of the server out of the
 * caches, so that a command of another kind costs it more than one of a kind that the step has used already.
 *
 * Around it stand, in step.ts: `call`, SHARED, `nowMs`, `channel` (of the process that makes the step), `text`,
 * `epochNow` and `mint`. Each operation begins with `use` and ends with `tidy`.
 */
/** How much longer side keys are kept than whoever is in them could be there, in milliseconds. */
export const SPARE_MS = 1_000;

/** Messages to processes, and whether they would arrive. */
export const SIGNALS_LUA = `
local heard = {}

local function isSharded(channel) return string.sub(channel, 1, 12) == 'leasehold:s:' end

-- Asked before a waiter is chosen, never after: a publish cannot be taken back.
local function isListening(channel)
  if heard[channel] == nil then
    local what = isSharded(channel) and 'SHARDNUMSUB' or 'NUMSUB'
    heard[channel] = call('PUBSUB', what, channel)[2] > 0
  end
  return heard[channel]
end

local function tell(channel, event)
  call(isSharded(channel) and 'SPUBLISH' or 'PUBLISH', channel, cjson.encode(event))
end
`;

export const KEY_LUA: string = `
local SPARE_MS = ${SPARE_MS}
${SIGNALS_LUA}
local RESERVED, WANTED = 'leasehold:reserved', ' wanted'
-- Arrival numbers stay below, times in milliseconds above: so one zset keeps both orders, the queue first.
local FIRST_TIME = 100000000000

local lock, members, order
local value, holder, capacity
-- Whether it is known that nothing is left to tidy, the last arrival number, and for how long this step has set the lock.
local isTidy, arrivals, armedMs

-- What is at the lock key: false, SHARED, RESERVED, an exclusive holder of ours (then \`holder\` is set), or a foreign
-- value.
local function use(lockKey, membersKey, orderKey)
  lock, members, order = lockKey, membersKey, orderKey
  capacity, holder = nil, nil
  isTidy, armedMs = false, nil
  value = redis.pcall('GET', lock)
  if type(value) == 'table' then
    if string.sub(value.err, 1, 9) == 'WRONGTYPE' then return 'a value of another type' end
    error(value.err)
  end
  if not value or value == SHARED or value == RESERVED then return nil end
  local owner, epoch, all, ttl, channel, wanted =
    string.match(value, '^(.*) (%d+) (%d+) (%d+) (leasehold:%S+)( ?%a*)$')
  if owner then
    holder = {
      owner = owner, epoch = epoch, capacity = all, ttl = ttl, channel = channel,
      isMarked = wanted == WANTED
    }
  elseif call('PTTL', lock) == -1 then
    return 'a value without expiry'
  end
  return nil
end

local function readRecord(record)
  if not record then return nil end
  local kind, units, ttl, channel, epoch = string.match(record, '^(%a) (%d+) (%d+) (%S+) ?(%d*)$')
  return {
    kind = kind, units = tonumber(units), ttl = tonumber(ttl), channel = channel,
    epoch = tonumber(epoch)
  }
end

local function recordOf(owner) return readRecord(call('HMGET', members, '=' .. owner)[1]) end

local function write(owner, record, deadMs)
  call('HSET', members, '=' .. owner, record)
  call('ZADD', order, text(deadMs), 'd' .. owner)
  isTidy = true
end

-- Never shortens: others may be there for longer.
local function extend(key, ms) call('PEXPIRE', key, text(math.max(call('PTTL', key), ms))) end

-- Side keys outlive whoever is in them. Doubled, so that few steps have to look after it.
-- The order is asked alone: the members are there for no less time. True when it was just made.
local function keepFor(ttlMs)
  local leftMs, longerMs = call('PTTL', order), 2 * ttlMs + SPARE_MS
  if leftMs == -1 then
    -- Just made, so that nobody else is in there.
    call('PEXPIRE', members, text(longerMs))
    call('PEXPIRE', order, text(longerMs))
    return true
  end
  if leftMs < ttlMs + SPARE_MS then
    extend(members, longerMs)
    extend(order, longerMs)
  end
  return false
end

local function usedUnits() return tonumber(call('HGET', members, 'u') or '0') end

local function remove(owner)
  local record = recordOf(owner)
  isTidy = false
  call('HDEL', members, '=' .. owner)
  call('ZREM', order, 'q' .. owner, 'd' .. owner)
  if record and record.kind == 'h' then
    call('HINCRBY', members, 'u', -record.units)
  end
end

local function freeIfUnshared()
  if value == SHARED and usedUnits() <= 0 then
    call('DEL', lock)
    value = false
  end
end

-- True when nobody is left.
local function tidy()
  if isTidy then return false end
  isTidy = true
  if call('ZRANGE', order, 0, 0)[1] then return false end
  call('DEL', members)
  return true
end

-- Removes who fell silent or expired; whoever makes this step has just been heard. Gives its record, if it has one.
local function prune(self)
  for _, member in ipairs(call('ZRANGE', order, FIRST_TIME, nowMs, 'BYSCORE')) do
    local owner = string.sub(member, 2)
    local record = recordOf(owner)
    if owner ~= self or not record or record.kind == 'h' then remove(owner) end
  end
  local known = call('HMGET', members, 'u', 'c', 'a', '=' .. (self or ''))
  local inUse, record = known[2], readRecord(known[4])
  arrivals = tonumber(known[3] or '0')
  if value ~= SHARED and tonumber(known[1] or '0') > 0 then
    local all = call('HGETALL', members)
    for index = 1, #all, 2 do
      if string.sub(all[index + 1], 1, 2) == 'h ' then remove(string.sub(all[index], 2)) end
    end
    if record and record.kind == 'h' then record = nil end
  end
  freeIfUnshared()
  if tidy() then inUse, record, arrivals = nil, nil, 0 end
  capacity = holder and holder.capacity or inUse
  capacity = capacity and tonumber(capacity)
  return record
end

local function waiterAt(index)
  local member = call('ZRANGE', order, index, index)[1]
  if not member or string.sub(member, 1, 1) ~= 'q' then return nil end
  return string.sub(member, 2)
end

-- Whether a process other than the channel's waits. Few waiters are of one process, so this ends soon.
local function isWanted(channel)
  local index = 0
  local owner = waiterAt(index)
  while owner do
    local record = recordOf(owner)
    if record and record.channel ~= channel then return true end
    index = index + 1
    owner = waiterAt(index)
  end
  return false
end

local function fits(units)
  if units == capacity then return not value end
  return not value or (value == SHARED and usedUnits() + units <= capacity)
end

local function grant(owner, units, ttl, channel)
  local epoch = mint()
  if units == capacity then
    value = table.concat({ owner, text(epoch), text(capacity), text(ttl), channel }, ' ')
    holder = { owner = owner, epoch = text(epoch), capacity = text(capacity), ttl = text(ttl), channel = channel }
    call('SET', lock, value, 'PX', ttl)
    armedMs = ttl
    return epoch
  end
  write(owner, table.concat({ 'h', text(units), text(ttl), channel, text(epoch) }, ' '), nowMs + ttl)
  call('HSET', members, 'c', text(capacity))
  call('HINCRBY', members, 'u', units)
  if not value or call('PTTL', lock) < ttl then call('SET', lock, SHARED, 'PX', ttl) end
  value = SHARED
  keepFor(ttl)
  return epoch
end

-- Serves the queue from its head while the head fits. True when the end was reached: a newcomer may be next.
local function drain(self, newcomer)
  local index = 0
  while not value or value == SHARED do
    local owner = waiterAt(index)
    if not owner then return true end
    local waiter = recordOf(owner)
    if not waiter then
      remove(owner)
    elseif owner ~= self and not isListening(waiter.channel) then
      -- It keeps its place: it may only be reconnecting.
      index = index + 1
    elseif not fits(waiter.units) then
      return false
    else
      call('HDEL', members, '=' .. owner)
      call('ZREM', order, 'q' .. owner, 'd' .. owner)
      isTidy = false
      local epoch = grant(owner, waiter.units, waiter.ttl, waiter.channel)
      -- Whoever makes this step learns of its grant from the answer.
      if owner ~= self then
        local wanted = (newcomer and newcomer ~= waiter.channel) or isWanted(waiter.channel)
        tell(waiter.channel, { 'granted', lock, owner, text(epoch), wanted and 1 or 0 })
      end
    end
  end
  return false
end

-- The grant of an owner that holds the key now, or nil.
local function held(owner)
  if holder and holder.owner == owner then
    return { epoch = tonumber(holder.epoch), ttl = tonumber(holder.ttl), channel = holder.channel }
  end
  if value ~= SHARED then return nil end
  local record = recordOf(owner)
  if not record or record.kind ~= 'h' then return nil end
  local deadMs = call('ZSCORE', order, 'd' .. owner)
  if not deadMs or tonumber(deadMs) <= nowMs then return nil end
  return record
end

-- By the ttl of the grant, so that a claim of the same owner with another ttl shortens nothing.
local function rearm(owner, lease)
  if value ~= SHARED then
    call('PEXPIRE', lock, lease.ttl)
  else
    extend(lock, lease.ttl)
    local deadMs = tonumber(call('ZSCORE', order, 'd' .. owner))
    call('ZADD', order, text(math.max(deadMs, nowMs + lease.ttl)), 'd' .. owner)
    keepFor(lease.ttl)
  end
end

-- Tells the processes that held the key before this step, and names a holder.
local function tellHolders(before)
  if holder then
    if holder.channel ~= channel and tonumber(holder.epoch) <= before then
      tell(holder.channel, { 'wanted', lock })
    end
    return holder.owner
  end
  if value ~= SHARED then return value end
  local name, nameEpoch, told = false, nil, {}
  local all = call('HGETALL', members)
  for index = 1, #all, 2 do
    local owner = string.sub(all[index], 2)
    if string.sub(all[index + 1], 1, 2) == 'h ' then
      local record = recordOf(owner)
      if not nameEpoch or record.epoch < nameEpoch then name, nameEpoch = owner, record.epoch end
      if record.channel ~= channel and record.epoch <= before and not told[record.channel] then
        told[record.channel] = true
        tell(record.channel, { 'wanted', lock })
      end
    end
  end
  return name
end

local function waiterRecord(units, ttl)
  return table.concat({ 'w', text(units), text(ttl), channel }, ' ')
end

-- Only after \`prune\`. Gives how many wait before it.
local function enqueue(owner, units, ttl)
  arrivals = arrivals + 1
  local arrival = text(arrivals)
  call('HSET', members, 'a', arrival, 'c', text(capacity), '=' .. owner, waiterRecord(units, ttl))
  call('ZADD', order, arrival, 'q' .. owner, text(nowMs + ttl + 1), 'd' .. owner)
  isTidy = true
  return keepFor(ttl) and 0 or call('ZRANK', order, 'q' .. owner)
end

-- How long until something of this key ends by itself: a hint, so the earliest of all members is good enough. Only the
-- first waiter that listens looks at that moment, so that one asks and not all of them.
local function endsInMs(ahead)
  for index = 0, ahead - 1 do
    local before = recordOf(waiterAt(index))
    if before and isListening(before.channel) then return -1 end
  end
  local leftMs = armedMs or call('PTTL', lock)
  if value == SHARED then
    local first = call('ZRANGE', order, FIRST_TIME, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
    if first[2] then leftMs = math.min(leftMs, tonumber(first[2]) - nowMs) end
  end
  return math.max(0, leftMs)
end
`;
