/**
 * States and what has been applied to them: a list of loads, commits and marks, each of one key and each all or nothing,
 * in one call. One whose key holds something else fails alone.
 *
 * All that a state is stands in one hash, with the layout of scripts/fence.ts, so that `fenced().get` reads it. Beside `t`,
 * `o`, `n` and `v` it has
 *
 * | field       | holds                                                                                      |
 * |-------------|--------------------------------------------------------------------------------------------|
 * | `c`         | the id of the last commit                                                                  |
 * | `g`, `1`-`3` | what is remembered: see remembered.ts                                                     |
 * | `d`         | there while messages may be marked as dead-lettered                                        |
 *
 * KEYS  for each operation: the state; dead, a sorted set of ids by the time of publishing; three generations of ids (all
 *       keys in one hash slot)
 * ARGV  process, fence memory in ms, window in ms; then for each operation
 *       l<token>, messages                                  load
 *       c<token> <expected version> <commit id>, value, messages   commit
 *       m, messages                                         mark as dead-lettered
 *       Messages are one text. Each is its id, when it was published in 13 digits of ms, and 1 for a replay or 0.
 * gives for each operation {'stale', the token at the fence}, {'failed', error}, or
 *       load    {'loaded', version, value, marks}
 *       commit  {'committed', version}, {'moved', version}, {'known', marks} or {'old', indices of messages}
 *       mark    {'marked', marks}
 *       Marks are pairs: the index of a message, and \`a\` for applied or \`d\` for dead-lettered.
 *
 * What answers with marks has written something as well, so that `WAIT` covers what the marks stand for. An operation reads
 * all that it needs before its first write. A server out of memory refuses a first write, and none after it.
 */
import { STALE_LUA } from './fence.ts';
import { REMEMBERED_LUA } from './remembered.ts';
import { type Script, script } from './script.ts';

/** Keys of one operation. */
const KEYS_OF_A_STATE = 5;
/** Digits of the time of a message. */
export const TIME_DIGITS = 13;

export const STATE: Script = script(
  'state',
  `
local call = redis.call
local process, memoryMs, windowMs = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
-- Of the operation: its token, its first key, and where that stands.
local token, state, first
-- Its messages: ids in order, without repetitions too, and what is known of each.
local ids, distinct, publishedMs, isReplay
${STALE_LUA}
${REMEMBERED_LUA}
local TIME_DIGITS = ${TIME_DIGITS}

local function readMessages(text)
  ids, distinct, publishedMs, isReplay = {}, {}, {}, {}
  for at = 1, #text, WIDTH + TIME_DIGITS + 1 do
    local id = string.sub(text, at, at + WIDTH - 1)
    local ms = tonumber(string.sub(text, at + WIDTH, at + WIDTH + TIME_DIGITS - 1))
    local other = publishedMs[id]
    ids[#ids + 1] = id
    if not other then distinct[#distinct + 1] = id end
    if not other or other < ms then publishedMs[id] = ms end
    if string.byte(text, at + WIDTH + TIME_DIGITS) == 49 then isReplay[id] = true end
  end
end

-- The fence, what is remembered, the version, and one field more; or nil, and what is wrong with the key.
local function read(field)
  local found = redis.pcall('HMGET', state, 't', 'o', 'g', '1', '2', '3', 'd', 'n', field)
  if not found.err then return found end
  if string.sub(found.err, 1, 9) ~= 'WRONGTYPE' then error(found.err) end
  return nil, { 'failed', found.err }
end

local function raise(isNew)
  call('HSET', state, 't', token, 'o', process)
  if isNew then call('PEXPIRE', state, memoryMs) end
end

-- Of the messages, those that are marked dead, by when they were published; nil for none.
local function dead(isFlagged)
  if not isFlagged then return nil end
  local found
  for from = 1, #ids, SOME do
    local to = math.min(from + SOME - 1, #ids)
    for index, score in ipairs(call('ZMSCORE', KEYS[first + 1], unpack(ids, from, to))) do
      if score then
        found = found or {}
        found[ids[from + index - 1]] = tonumber(score)
      end
    end
  end
  return found
end

local function markDead(id)
  call('ZADD', KEYS[first + 1], string.format('%.0f', boundedMs(id)), id)
  call('PEXPIRE', KEYS[first + 1], string.format('%.0f', 2 * windowMs + SPARE_MS))
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
  local answer = { 'loaded', tonumber(found[8] or '0'), found[9] }
  if messages == '' then
    raise(not found[8])
    return answer
  end
  readMessages(messages)
  recall(found)
  local applied, buried = known(), dead(found[7])
  raise(not found[8])
  if applied or buried then
    marked(answer, applied, buried)
    save({})
  end
  return answer
end

local function commit(expected, commitId, value, messages)
  local found, failed = read('c')
  if failed then return failed end
  local version = tonumber(found[8] or '0')
  if found[9] == commitId then
    call('HSET', state, 'c', commitId)
    return { 'committed', version }
  end
  if isStale(found[1], found[2]) then return { 'stale', found[1] } end
  if version ~= tonumber(expected) then
    raise(not found[8])
    return { 'moved', version }
  end

  readMessages(messages)
  recall(found)
  local applied, buried = known(), dead(found[7])
  local others = {}
  for id, ms in pairs(buried or others) do
    if not isReplay[id] then others[id] = ms end
  end
  if applied or next(others) then
    raise(not found[8])
    local answer = marked({ 'known' }, applied, others)
    save({})
    return answer
  end
  local old
  local oldestMs = math.max(forgottenMs, nowMs - windowMs)
  for index, id in ipairs(ids) do
    if publishedMs[id] <= oldestMs or publishedMs[id] > nowMs + windowMs then
      old = old or { 'old' }
      old[#old + 1] = index
    end
  end
  if old then
    raise(not found[8])
    return old
  end

  local untilMs = 0
  for _, id in ipairs(distinct) do
    -- A later copy may have been seen while it was dead.
    untilMs = math.max(untilMs, publishedMs[id], buried and buried[id] or 0)
  end
  local fields = { 'n', version + 1, 'v', value, 'c', commitId }
  if found[1] ~= token then
    fields[7], fields[8], fields[9], fields[10] = 't', token, 'o', process
  end
  forgetTheOld()
  if #distinct > 0 then remember(distinct, untilMs) end
  if found[7] and not buried and call('EXISTS', KEYS[first + 1]) == 0 then lose('d') end
  -- What began as a fenced value may have an expiry of its own.
  if version > 0 and not found[9] then lose('x') end
  save(fields)
  if buried then
    for _, id in ipairs(ids) do call('ZREM', KEYS[first + 1], id) end
  end
  if not found[9] then call('PERSIST', state) end
  return { 'committed', version + 1 }
end

local function mark(messages)
  local found, failed = read('c')
  if failed then return failed end
  readMessages(messages)
  recall(found)
  local applied, buried = known(), dead(found[7]) or {}
  for _, id in ipairs(ids) do
    if not (applied and applied[id]) and not buried[id] then
      markDead(id)
      buried[id] = boundedMs(id)
    end
  end
  local answer = marked({ 'marked' }, applied, buried)
  call('ZREMRANGEBYSCORE', KEYS[first + 1], '-inf', string.format('%.0f', nowMs - windowMs))
  if found[3] then save({ 'd', '1' }) else call('HSET', state, 'd', '1') end
  if not found[8] then call('PEXPIRE', state, memoryMs) end
  return answer
end

local function run(kind, operation, cursor)
  if kind == 'm' then return mark(ARGV[cursor + 1]) end
  token = string.sub(operation, 2, 21)
  if kind == 'l' then return load(ARGV[cursor + 1]) end
  local expected, commitId = string.match(operation, '^(%d+) (.*)$', 23)
  return commit(expected, commitId, ARGV[cursor + 1], ARGV[cursor + 2])
end

local answers = {}
local cursor = 4
first = 1
while cursor <= #ARGV do
  local operation = ARGV[cursor]
  local kind = string.sub(operation, 1, 1)
  state = KEYS[first]
  answers[#answers + 1] = run(kind, operation, cursor)
  cursor = cursor + (kind == 'c' and 3 or 2)
  first = first + ${KEYS_OF_A_STATE}
end
return answers
`,
);

/** KEYS the state. */
export const PEEK: Script = script('peek', "return redis.call('HGET', KEYS[1], 'v')");
