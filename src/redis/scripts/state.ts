/**
 * States and what has been applied to them: a list of loads, commits and marks, each of one key and each all or nothing,
 * in one call. One whose key holds something else fails alone.
 *
 * All that a state is stands in one hash, with the layout of scripts/fence.ts, so that `fenced().get` reads it. Beside `t`,
 * `o`, `n` and `v` it has one field, `r`, for all that is remembered: see remembered.ts. One, since a commit reads and writes
 * it whole, and what a server does for a field is more than what its bytes cost.
 *
 * KEYS  where the last epoch of locks stands; for each operation the state and, where all keys have to be named, dead (a sorted
 *       set of ids by the time of publishing) and three generations of ids; behind them, for \`f\` and \`e\`, the lock (all keys in
 *       one hash slot)
 * ARGV  process, fence memory in ms, window in ms, how many keys of a state are named (1 or 5); then for each operation
 *       l<token>, messages                                  load
 *       c<token> <expected version> <commit id>, value, messages   commit
 *       m, messages                                         mark as dead-lettered
 *       f, messages                                         look at a state whose lock nobody has
 *       e<expected token> <expected version> <commit id>, value, messages   commit if nobody has the lock, and the state is
 *                                                           the one that was seen; no token for one without a fence
 *       Messages are one text. Each is its id, when it was published in 13 digits of ms, and 1 for a replay or 0.
 * gives for each operation {'stale', the token at the fence}, {'failed', error}, or
 *       load    {'loaded', version, value, marks}
 *       commit  {'committed', version}, {'moved', version}, {'known', marks} or {'old', indices of messages}
 *       mark    {'marked', marks}
 *       look    {'loaded', version, value, the token at the fence or '', marks}, or {'locked'}
 *       commit without the lock, as a commit, but {'committed', version, its token}, {'moved', and all as a look}, or {'locked'}
 *       Marks are pairs: the index of a message, and \`a\` for applied or \`d\` for dead-lettered.
 *
 * What answers with marks has written something as well, so that `WAIT` covers what the marks stand for. An operation reads
 * all that it needs before its first write. A server out of memory refuses a first write, and none after it.
 */
import { GRANTS_PER_EPOCH } from '../../core/lease.ts';
import { STALE_LUA } from './fence.ts';
import { EPOCH_LUA } from './frame.ts';
import { REMEMBERED_LUA } from './remembered.ts';
import { type Script, script } from './script.ts';

/** Keys of one operation. */
export const KEYS_OF_A_STATE = 5;
/** Digits of the time of a message. */
export const TIME_DIGITS = 13;

export const STATE: Script = script(
  'state',
  `
local call = redis.call
local process, memoryMs, windowMs, named = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
-- All that take no lock share one epoch.
local operations = 1
${EPOCH_LUA}
-- Of the operation: its token, its first key, and where that stands.
local token, state, first
-- Its messages: ids in order, without repetitions too, and what is known of each.
local ids, distinct, publishedMs, isReplay
${STALE_LUA}
${REMEMBERED_LUA}
local TIME_DIGITS, GRANTS_PER_EPOCH = ${TIME_DIGITS}, ${GRANTS_PER_EPOCH}

local function readMessages(packed)
  ids, distinct, publishedMs, isReplay = {}, {}, {}, {}
  for at = 1, #packed, WIDTH + TIME_DIGITS + 1 do
    local id = string.sub(packed, at, at + WIDTH - 1)
    local ms = tonumber(string.sub(packed, at + WIDTH, at + WIDTH + TIME_DIGITS - 1))
    local other = publishedMs[id]
    ids[#ids + 1] = id
    if not other then distinct[#distinct + 1] = id end
    if not other or other < ms then publishedMs[id] = ms end
    if string.byte(packed, at + WIDTH + TIME_DIGITS) == 49 then isReplay[id] = true end
  end
end

-- The fence, the version, what is remembered, and the value where that is asked for; or nil, and what is wrong with the key.
local function read(...)
  local found = redis.pcall('HMGET', state, 't', 'o', 'n', 'r', ...)
  if not found.err then return found end
  if string.sub(found.err, 1, 9) ~= 'WRONGTYPE' then error(found.err) end
  return nil, { 'failed', found.err }
end

-- Of all commits of this run that take no lock: no two of them are of the same version of a state.
local sharedToken
local function elidedToken()
  sharedToken = sharedToken or string.format('%020.0f', mint() * GRANTS_PER_EPOCH)
  return sharedToken
end

local function raise(isNew)
  if token then call('HSET', state, 't', token, 'o', process) end
  if isNew then call('PEXPIRE', state, memoryMs) end
end

local function deadKey()
  return named > 1 and KEYS[first + 1] or 'leasehold:d:' .. state
end

-- Of the messages, those that are marked dead, by when they were published; nil for none.
local function dead()
  if not mayHaveDead then return nil end
  local found
  for from = 1, #ids, SOME do
    local to = math.min(from + SOME - 1, #ids)
    for index, score in ipairs(call('ZMSCORE', deadKey(), unpack(ids, from, to))) do
      if score then
        found = found or {}
        found[ids[from + index - 1]] = tonumber(score)
      end
    end
  end
  return found
end

local function markDead(id)
  call('ZADD', deadKey(), text(boundedMs(id)), id)
  call('PEXPIRE', deadKey(), text(2 * windowMs + SPARE_MS))
end

-- Answers with the marks, and remembers known ids for as long as their latest copy asks for.
local function marked(answer, applied, buried)
  for index, id in ipairs(ids) do
    local mark = applied and applied[id] and 'a' or buried and buried[id] and 'd'
    if mark then
      answer[#answer + 1] = index
      answer[#answer + 1] = mark
      if mark == 'd' and boundedMs(id) > buried[id] then markDead(id) end
    end
  end
  if applied then refresh(applied) end
  return answer
end

local function load(messages)
  local found, failed = read('v')
  if failed then return failed end
  if isStale(found[1], found[2]) then return { 'stale', found[1] } end
  local answer = { 'loaded', tonumber(found[3] or '0'), found[5] }
  if messages == '' then
    raise(not found[3])
    return answer
  end
  readMessages(messages)
  recall(found[4])
  local applied, buried = known(), dead()
  raise(not found[3])
  if applied or buried then
    marked(answer, applied, buried)
    call('HSET', state, 'r', record())
  end
  return answer
end

-- Whether somebody holds the lock, or waits for it.
local function isLocked()
  local lock = KEYS[first + named]
  return call('EXISTS', lock, 'leasehold:m:' .. lock) > 0
end

-- What stands there, for a commit without the lock.
local function look(is, messages)
  local found, failed = read('v')
  if failed then return failed end
  local answer = { is, tonumber(found[3] or '0'), found[5], found[1] or '' }
  if messages == '' then return answer end
  readMessages(messages)
  recall(found[4])
  local applied, buried = known(), dead()
  if applied or buried then
    marked(answer, applied, buried)
    call('HSET', state, 'r', record())
  end
  return answer
end

local function committed(version, fence)
  if fence then return { 'committed', version, fence } end
  return { 'committed', version }
end

-- Under a lease, or with the \`fence\` that a look has found.
local function commit(fence, expected, commitId, value, messages)
  local found, failed = read()
  if failed then return failed end
  local version, isNew = tonumber(found[3] or '0'), not found[3]
  recall(found[4])
  if lastCommit == commitId then
    call('HSET', state, 'r', found[4])
    return committed(version, fence and found[1])
  end
  if fence then
    if isLocked() then return { 'locked' } end
    if version ~= tonumber(expected) or (found[1] or '') ~= fence then return look('moved', messages) end
  else
    if isStale(found[1], found[2]) then return { 'stale', found[1] } end
    if version ~= tonumber(expected) then
      raise(isNew)
      return { 'moved', version }
    end
  end

  readMessages(messages)
  local applied, buried = known(), dead()
  local others
  if buried then
    others = {}
    for id, ms in pairs(buried) do
      if not isReplay[id] then others[id] = ms end
    end
  end
  if applied or others and next(others) then
    raise(isNew)
    local answer = marked({ 'known' }, applied, others)
    call('HSET', state, 'r', record())
    return answer
  end
  local old
  local oldestMs = math.max(forgottenMs, nowMs - windowMs)
  for index = 1, #ids do
    local ms = publishedMs[ids[index]]
    if ms <= oldestMs or ms > nowMs + windowMs then
      old = old or { 'old' }
      old[#old + 1] = index
    end
  end
  if old then
    raise(isNew)
    return old
  end

  if fence then
    token = elidedToken()
    if isStale(found[1], found[2]) then return { 'stale', found[1] } end
  end
  local untilMs = 0
  for index = 1, #distinct do
    local id = distinct[index]
    -- A later copy may have been seen while it was dead.
    untilMs = math.max(untilMs, publishedMs[id], buried and buried[id] or 0)
  end
  local isFirst = lastCommit == ''
  lastCommit = commitId
  forgetTheOld()
  if #distinct > 0 then remember(distinct, untilMs) end
  if mayHaveDead and not buried and call('EXISTS', deadKey()) == 0 then mayHaveDead = false end
  -- What began as a fenced value may have an expiry of its own.
  if isFirst and version > 0 then call('HDEL', state, 'x') end
  call('HSET', state, 't', token, 'o', process, 'n', version + 1, 'v', value, 'r', record())
  if buried then
    for _, id in ipairs(ids) do call('ZREM', deadKey(), id) end
  end
  if isFirst then call('PERSIST', state) end
  return committed(version + 1, fence and token)
end

local function mark(messages)
  local found, failed = read()
  if failed then return failed end
  readMessages(messages)
  recall(found[4])
  local applied, buried = known(), dead() or {}
  for _, id in ipairs(ids) do
    if not (applied and applied[id]) and not buried[id] then
      markDead(id)
      buried[id] = boundedMs(id)
    end
  end
  local answer = marked({ 'marked' }, applied, buried)
  call('ZREMRANGEBYSCORE', deadKey(), '-inf', text(nowMs - windowMs))
  mayHaveDead = true
  call('HSET', state, 'r', record())
  if not found[3] then call('PEXPIRE', state, memoryMs) end
  return answer
end

local function run(kind, operation, cursor)
  token = nil
  if kind == 'm' then return mark(ARGV[cursor + 1]) end
  if kind == 'f' then return isLocked() and { 'locked' } or look('loaded', ARGV[cursor + 1]) end
  if kind == 'e' then
    local fence, expected, commitId = string.match(operation, '^e(%d*) (%d+) (.*)$')
    return commit(fence, expected, commitId, ARGV[cursor + 1], ARGV[cursor + 2])
  end
  token = string.sub(operation, 2, 21)
  if kind == 'l' then return load(ARGV[cursor + 1]) end
  local expected, commitId = string.match(operation, '^(%d+) (.*)$', 23)
  return commit(nil, expected, commitId, ARGV[cursor + 1], ARGV[cursor + 2])
end

local answers = {}
local cursor = 5
first = 2
while cursor <= #ARGV do
  local operation = ARGV[cursor]
  local kind = string.sub(operation, 1, 1)
  state = KEYS[first]
  answers[#answers + 1] = run(kind, operation, cursor)
  cursor = cursor + ((kind == 'c' or kind == 'e') and 3 or 2)
  first = first + named + ((kind == 'e' or kind == 'f') and 1 or 0)
end
return answers
`,
);

/** KEYS the state. */
export const PEEK: Script = script('peek', "return redis.call('HGET', KEYS[1], 'v')");
