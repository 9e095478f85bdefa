/**
 * States and what has been applied to them: a list of loads, commits and marks, each of one key and each all or nothing,
 * in one call. One whose key holds something else fails alone.
 *
 * All that a state is stands in one hash, with the layout of scripts/fence.ts, so that `fenced().get` reads it. Beside `t`,
 * `o`, `n` and `v` it has one field, `r`, for all that is remembered: see remembered.ts. One, since a commit reads and writes
 * it whole, and what a server does for a field is more than what its bytes cost.
 *
 * KEYS  where the last epoch of locks stands; for each operation the state and, where all keys have to be named, dead (a sorted
 *       set of ids by the time of publishing) and three generations of ids; behind all of them, for each `f` and `e`, the lock and
 *       its members (all keys in one hash slot)
 * ARGV  process, fence memory in ms, window in ms, how many keys of a state are named (1 or 5), where the first lock stands
 *       among the keys; then for each operation
 *       l0<token><messages>                                          load
 *       c<new><token><expected version> <next> <bytes of the commit id> <commit id><messages>, value   commit; new is 1 where the ids were looked for in the
 *                                                                    version that is expected, and none was known, and else 0
 *       m<messages>                                                  mark as dead-lettered
 *       f<messages>                                                  look at a state whose lock nobody has
 *       e<new><expected token><expected version> <next> <bytes of the commit id> <commit id><messages>, value   commit if nobody has the lock, and the
 *                                                                    state is the one that was seen; `NO_TOKEN` for none
 *       Each message is its id, when it was published in 13 digits of ms, and 1 for a replay or 0.
 * gives in one list, for each operation
 *       a commit that was made: 'committed', and in place of that its token for one without the lock
 *       any other commit: a list of the five values
 *       all others: five values. They are no list, since a server makes a buffer for each list in a list.
 *       The five values are what it is, a version, a value, a token, and a list. Those that it has not are null.
 *       load    'loaded', version, value, null, marks
 *       look    'loaded', version, value, the token at the fence, marks; or 'locked'
 *       commit  'moved', version; 'known' and marks; or 'old' and indices of messages
 *       commit without the lock: as a commit, but 'moved' has all that a look has; or 'locked'
 *       mark    'marked' and marks
 *       any     'stale' and the token at the fence; 'failed', null, and the error
 *       Marks are pairs: the index of a message, and `a` for applied or `d` for dead-lettered. Where none is known they are
 *       null, or an empty list when ids were gone too early: only the first says that all are new.
 *
 * What answers with marks has written something as well, so that `WAIT` covers what the marks stand for. An operation reads
 * all that it needs before its first write. A server out of memory refuses a first write, and none after it.
 *
 * A server makes every function anew in each run. So those that few runs need are made by `rarely`, what functions share is
 * declared before `main`, where it is looked up once and not for each of them, and constants are written into the text.
 */
import { GRANTS_PER_EPOCH } from '../../core/lease.ts';
import { STALE_LUA } from './fence.ts';
import { EPOCH_LUA } from './frame.ts';
import {
  RARELY_REMEMBERED_LUA,
  REMEMBERED_LUA,
  REMEMBERED_VARIABLES_LUA,
  SOME,
  SPARE_MS,
  WIDTH,
} from './remembered.ts';
import { type Script, script } from './script.ts';

/** Keys of one operation. */
export const KEYS_OF_A_STATE = 5;
/** Values of an answer that is not a single one. */
export const VALUES_OF_AN_ANSWER = 5;
/** Stands where a state has no token at its fence. */
export const NO_TOKEN: string = ' '.repeat(20);
/** Digits of the time of a message. */
export const TIME_DIGITS = 13;
/** Bytes of a message. */
const MESSAGE = WIDTH + TIME_DIGITS + 1;

export const STATE: Script = script(
  'state',
  `
local call, pcall = redis.call, redis.pcall
local sub, find, match, byte, char = string.sub, string.find, string.match, string.byte, string.char
local max, min, floor = math.max, math.min, math.floor
local keys, args = KEYS, ARGV
local process, memoryMs, windowMs, named = args[1], args[2], tonumber(args[3]), tonumber(args[4])
-- Where the locks stand, and that of the operation.
local firstLock, lockAt = tonumber(args[5]), nil
local time = call('TIME')
local nowMs = time[1] * 1000 + floor(time[2] / 1000)
-- All that take no lock share one epoch.
local operations = 1
-- Of the operation: its token, its first key, and where that stands.
local token, state, first
-- Its text, and where its messages begin there; and their ids: in order, and without repetitions.
local operation, messagesAt, ids, distinct
local rarely
${REMEMBERED_VARIABLES_LUA}
local function main()
${EPOCH_LUA}
${STALE_LUA}
${REMEMBERED_LUA}

local function readMessages()
  if #operation - messagesAt == ${MESSAGE - 1} then
    ids = { sub(operation, messagesAt, messagesAt + ${WIDTH - 1}) }
    distinct = ids
    return
  end
  ids, distinct = {}, {}
  local seen = {}
  for at = messagesAt, #operation, ${MESSAGE} do
    local id = sub(operation, at, at + ${WIDTH - 1})
    ids[#ids + 1] = id
    if not seen[id] then
      seen[id] = true
      distinct[#distinct + 1] = id
    end
  end
end

-- When the message was published, in ms.
local function timeOf(index)
  local at = messagesAt + (index - 1) * ${MESSAGE} + ${WIDTH}
  return tonumber(sub(operation, at, at + ${TIME_DIGITS - 1}))
end

-- What is wrong with the key, as an answer.
local function failed(err)
  if sub(err, 1, 9) ~= 'WRONGTYPE' then error(err) end
  return 'failed', nil, err
end

-- Of all commits of this run that take no lock: no two of them are of the same version of a state.
local sharedToken
local function elidedToken()
  sharedToken = sharedToken or string.format('%020.0f', mint() * ${GRANTS_PER_EPOCH})
  return sharedToken
end

-- The fence remembers the lease of the operation, if it has one.
local function raise(isNew)
  if token then call('HSET', state, 't', token, 'o', process) end
  if isNew then call('PEXPIRE', state, memoryMs) end
end

-- Somebody holds the lock, or waits for it: asked once for all locks, and for each only when there is one.
local isQuiet
local function isLocked()
  if isQuiet == nil then isQuiet = call('EXISTS', unpack(keys, firstLock)) == 0 end
  return not isQuiet and call('EXISTS', keys[lockAt], keys[lockAt + 1]) > 0
end

-- Under the lease of the operation, which the fence remembers then, or without one.
local function look(is)
  local found = pcall('HMGET', state, 't', 'n', 'r', 'v', 'o')
  if found.err then return failed(found.err) end
  local fence, version, value, marks = found[1], found[2], found[4], nil
  if token and isStale(fence, found[5]) then return 'stale', nil, nil, fence end
  local applied, buried
  if found[3] and messagesAt <= #operation then
    readMessages()
    recall(found[3])
    local wasForgottenMs = forgottenMs
    applied, buried = known(), mayHaveDead and rarely().dead()
    -- A hash is gone, so that a commit has to find out what is too old.
    if forgottenMs > wasForgottenMs then marks = {} end
  end
  if token then raise(not version) end
  if applied or buried then marks = rarely().marked(applied, buried) end
  return is, version or '0', value, not token and fence or nil, marks
end

-- Under the lease of the operation, or with the \`fence\` that a look has found.
local function commit(areNew, fence, expected, following, commitId, value)
  -- Whose the token at the fence is matters to leases alone.
  local found = fence and pcall('HMGET', state, 't', 'n', 'r') or pcall('HMGET', state, 't', 'n', 'r', 'o')
  if found.err then return failed(found.err) end
  local version = found[2] or '0'
  recall(found[3])
  if version == following and lastCommit() == commitId then
    call('HSET', state, 'r', found[3])
    return 'committed', nil, nil, fence and found[1]
  end
  if fence then
    if isLocked() then return 'locked' end
    -- What somebody has put there by hand has no version.
    if version ~= expected or (found[1] or '${NO_TOKEN}') ~= fence or (not found[2] and call('HMGET', state, 'v')[1]) then
      return look('moved')
    end
  else
    if isStale(found[1], found[4]) then return 'stale', nil, nil, found[1] end
    if version ~= expected then
      raise(not found[2])
      return 'moved', version
    end
  end

  readMessages()
  -- What is applied makes another version, and what is marked does not.
  local applied, buried = not areNew and known(), mayHaveDead and rarely().dead()
  if applied or buried then
    local others = buried and rarely().notReplayed(buried)
    if applied or others then
      raise(not found[2])
      return 'known', nil, nil, nil, rarely().marked(applied, others)
    end
  end
  local untilMs, old = 0, nil
  local oldestMs, newestMs = max(forgottenMs, nowMs - windowMs), nowMs + windowMs
  for index = 1, #ids do
    -- Of several copies the latest counts.
    local ms = #ids == #distinct and timeOf(index) or rarely().latestTimeOf(ids[index])
    if ms <= oldestMs or ms > newestMs then
      old = old or {}
      old[#old + 1] = index
    end
    if ms > untilMs then untilMs = ms end
  end
  if old then
    raise(not found[2])
    return 'old', nil, nil, nil, old
  end

  if fence then
    token = elidedToken()
    if isStale(found[1]) then return 'stale', nil, nil, found[1] end
  end
  -- A later copy may have been seen while it was dead.
  if buried then untilMs = max(untilMs, rarely().latestOf(buried)) end
  local isFirst = not recalled or commitAt > #recalled
  forgetTheOld()
  if #distinct > 0 then remember(distinct, untilMs) end
  if mayHaveDead and not buried then mayHaveDead = rarely().hasDead() end
  -- What began as a fenced value may have an expiry of its own.
  if isFirst and found[2] then call('HDEL', state, 'x') end
  call('HSET', state, 't', token, 'o', process, 'n', following, 'v', value, 'r', record(commitId))
  if buried then rarely().raiseTheDead() end
  if isFirst then call('PERSIST', state) end
  return 'committed', nil, nil, fence and token
end

local rare
function rarely()
  if rare then return rare end
  rare = {}
  -- Of the messages that they were read from: by id, the time of the latest copy, and those that have a replay.
  local readFrom, publishedMs, isReplay
  local function readTimes()
    if readFrom == operation then return end
    readFrom, publishedMs, isReplay = operation, {}, {}
    for index, id in ipairs(ids) do
      publishedMs[id] = max(publishedMs[id] or 0, timeOf(index))
      if byte(operation, messagesAt - 1 + index * ${MESSAGE}) == 49 then isReplay[id] = true end
    end
  end

  function rare.latestTimeOf(id)
    readTimes()
    return publishedMs[id]
  end

  -- Nobody's clock is that far ahead; and nothing is remembered for longer than two windows.
  local function boundedMs(id) return min(rare.latestTimeOf(id), nowMs + windowMs) end
${RARELY_REMEMBERED_LUA}
  local function deadKey()
    return named > 1 and keys[first + 1] or 'leasehold:d:' .. state
  end

  function rare.hasDead() return call('EXISTS', deadKey()) > 0 end

  -- Of the messages, those that are marked dead, by when they were published; nil for none.
  function rare.dead()
    local found
    for from = 1, #ids, ${SOME} do
      local to = min(from + ${SOME - 1}, #ids)
      for index, score in ipairs(call('ZMSCORE', deadKey(), unpack(ids, from, to))) do
        if score then
          found = found or {}
          found[ids[from + index - 1]] = tonumber(score)
        end
      end
    end
    return found
  end

  function rare.latestOf(buried)
    local latest = 0
    for _, ms in pairs(buried) do latest = max(latest, ms) end
    return latest
  end

  -- Of the dead, those that are no replays; nil for none.
  function rare.notReplayed(buried)
    local others
    readTimes()
    for id, ms in pairs(buried) do
      if not isReplay[id] then
        others = others or {}
        others[id] = ms
      end
    end
    return others
  end

  function rare.raiseTheDead()
    for _, id in ipairs(ids) do call('ZREM', deadKey(), id) end
  end

  local function markDead(id)
    call('ZADD', deadKey(), text(boundedMs(id)), id)
    -- Never earlier than before: the clock may have been set back since the others were marked.
    local leftMs = 2 * windowMs + ${SPARE_MS}
    if call('PTTL', deadKey()) < leftMs then call('PEXPIRE', deadKey(), text(leftMs)) end
  end

  -- Gives the marks, and remembers known ids for as long as their latest copy asks for.
  function rare.marked(applied, buried)
    local marks = {}
    for index, id in ipairs(ids) do
      local mark = applied and applied[id] and 'a' or buried and buried[id] and 'd'
      if mark then
        marks[#marks + 1] = index
        marks[#marks + 1] = mark
        if mark == 'd' and boundedMs(id) > buried[id] then markDead(id) end
      end
    end
    if applied then refresh(applied) end
    call('HSET', state, 'r', record(lastCommit()))
    return marks
  end

  function rare.mark()
    local found = pcall('HMGET', state, 'n', 'r')
    if found.err then return failed(found.err) end
    readMessages()
    recall(found[2])
    local applied, buried = known(), mayHaveDead and rare.dead() or {}
    for _, id in ipairs(ids) do
      if not (applied and applied[id]) and not buried[id] then
        markDead(id)
        buried[id] = boundedMs(id)
      end
    end
    call('ZREMRANGEBYSCORE', deadKey(), '-inf', text(nowMs - windowMs))
    mayHaveDead = true
    local marks = rare.marked(applied, buried)
    if not found[1] then call('PEXPIRE', state, memoryMs) end
    return 'marked', nil, nil, nil, marks
  end
  return rare
end

local function run(kind, value)
  token = nil
  if value then
    local areNew = byte(operation, 2) == 49
    local given = sub(operation, 3, 22)
    local expected, following, length, at = match(operation, '^(%d+) (%d+) (%d+) ()', 23)
    messagesAt = at + length
    local commitId = sub(operation, at, messagesAt - 1)
    if kind == 'e' then return commit(areNew, given, expected, following, commitId, value) end
    token = given
    return commit(areNew, nil, expected, following, commitId, value)
  end
  messagesAt = 2
  if kind == 'f' then
    if isLocked() then return 'locked' end
    return look('loaded')
  end
  if kind == 'm' then return rarely().mark() end
  token, messagesAt = sub(operation, 3, 22), 23
  return look('loaded')
end

local answers = {}
local cursor, last, at = 6, #args, 0
first, lockAt = 2, firstLock
while cursor <= last do
  operation = args[cursor]
  local kind = sub(operation, 1, 1)
  local isCommit = kind == 'e' or kind == 'c'
  state = keys[first]
  local is, version, value, fence, list = run(kind, isCommit and args[cursor + 1])
  if not isCommit then
    answers[at + 1], answers[at + 2], answers[at + 3] = is, version or false, value or false
    answers[at + 4], answers[at + 5] = fence or false, list or false
    at = at + ${VALUES_OF_AN_ANSWER}
    cursor = cursor + 1
  else
    at = at + 1
    answers[at] = is == 'committed' and (fence or is)
      or { is, version or false, value or false, fence or false, list or false }
    cursor = cursor + 2
  end
  first = first + named
  if kind == 'e' or kind == 'f' then lockAt = lockAt + 2 end
end
return answers
end
return main()
`,
);

/** KEYS the state. */
export const PEEK: Script = script('peek', "return redis.call('HGET', KEYS[1], 'v')");
