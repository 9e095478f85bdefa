/**
 * What two processes that want one key do most: the one that comes becomes the only waiter of an exclusive lock, and the
 * one that ends its lease hands it to the only waiter. It does what claim.ts and drop.ts do in these two cases, in straight
 * lines; in all others it changes nothing and gives nil.
 */
import { SIGNALS_LUA, SPARE_MS } from './key.ts';

/** Around it stands what step.ts has. Gives the two functions. */
export const PAIR_LUA: string = `
${SIGNALS_LUA}
-- Only where nobody else waits, and nothing else stands beside the lock.
local function queueAlone(at, owner, all, ttl)
  local members, order = KEYS[at + operations], KEYS[at + 2 * operations]
  local leftMs = text(2 * ttl + ${SPARE_MS})
  call('HSET', members, 'a', 1, 'c', all, '=' .. owner, 'w ' .. all .. ' ' .. ttl .. ' ' .. channel)
  call('ZADD', order, 1, 'q' .. owner, text(nowMs + ttl + 1), 'd' .. owner)
  call('PEXPIRE', members, leftMs)
  call('PEXPIRE', order, leftMs)
end

local function waiting(leftMs, holder)
  return { 1, leftMs, 0, holder, epochNow(), 0, isListening(channel) and 1 or 0 }
end

-- For a key without members.
local function waitAlone(at, operation)
  local units, all, ttl, wait, owner = readClaim(operation)
  local lock = KEYS[at]
  local value = redis.pcall('GET', lock)
  if units ~= all or type(value) ~= 'string' then return nil end
  local holder, capacity, theirs =
    string.match(value, '^(.*) %d+ (%d+) %d+ (leasehold:%S+)$')
  if capacity ~= all or holder == owner then return nil end
  if theirs ~= channel then tell(theirs, { 'wanted', lock }) end
  if wait == '0' then return { 2, holder } end
  queueAlone(at, owner, all, ttl)
  return waiting(math.max(0, call('PTTL', lock)), holder)
end

-- For a key with members. With a next claim, that one waits afterwards.
local function handOver(at, owner, again)
  local lock, members, order = KEYS[at], KEYS[at + operations], KEYS[at + 2 * operations]
  local value = redis.pcall('GET', lock)
  if type(value) ~= 'string' or string.sub(value, 1, #owner + 1) ~= owner .. ' ' then return nil end
  local all = string.match(value, '^%d+ (%d+) %d+ leasehold:%S+$', #owner + 2)
  local entries = all and call('ZRANGE', order, 0, 2, 'WITHSCORES') or {}
  if #entries ~= 4 then return nil end
  local waiter = string.sub(entries[1], 2)
  if entries[1] ~= 'q' .. waiter or entries[3] ~= 'd' .. waiter or tonumber(entries[4]) <= nowMs then
    return nil
  end
  local record = call('HMGET', members, '=' .. waiter)[1] or ''
  local units, ttl, theirs = string.match(record, '^w (%d+) (%d+) (%S+)$')
  if units ~= all or not isListening(theirs) then return nil end
  local nextUnits, nextAll, nextTtl, nextWait, nextOwner
  if again then
    nextUnits, nextAll, nextTtl, nextWait, nextOwner = readClaim(again)
    if nextUnits ~= all or nextAll ~= all or nextWait ~= '1' then return nil end
  end

  -- First what frees memory.
  call('DEL', members, order)
  local epoch = mint()
  call('SET', lock, table.concat({ waiter, text(epoch), all, ttl, theirs }, ' '), 'PX', ttl)
  local wanted = again and theirs ~= channel and 1 or 0
  tell(theirs, { 'granted', lock, waiter, text(epoch), wanted })
  if not again then return 1 end
  queueAlone(at, nextOwner, all, nextTtl)
  return { 1, waiting(tonumber(ttl), waiter) }
end

return waitAlone, handOver
`;
