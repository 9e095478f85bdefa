/**
 * The state of one key, and what has been applied to it. All that the state is stands in one hash, with the layout of
 * scripts/fence.ts, so that `fenced().get` reads it; the commit adds
 *
 * | field | holds                                       |
 * |-------|---------------------------------------------|
 * | `c`   | the id of the last commit                   |
 * | `g`   | what is remembered: see remembered.ts       |
 *
 * KEYS  state; dead, a sorted set of ids by the time of publishing; three generations of ids (all in one hash slot)
 * ARGV  token, process, fence memory in ms, window in ms; then
 *       load    messages
 *       commit  commit id, expected version, value, messages
 *       dead    messages (the first three arguments are empty)
 *       A message is three: its id, when it was published in ms, and 1 for a replay.
 * gives {'stale', the token at the fence}, or
 *       load    {'loaded', version, value, marks}
 *       commit  {'committed', version}, {'moved', version}, {'known', marks} or {'old', indices of messages}
 *       dead    {'marked', marks}
 *       Marks are pairs: the index of a message, and `a` for applied or `d` for dead-lettered.
 *
 * What answers with marks has written something as well, so that `WAIT` covers what the marks stand for. The first write
 * of each script is one that a server out of memory refuses; after it, none is refused.
 */
import { GUARD_LUA } from './fence.ts';
import { REMEMBERED_LUA } from './remembered.ts';
import { type Script, script } from './script.ts';

/** Reads the messages from an argument on, and tells which of them are known. */
const MESSAGES_LUA = `
local windowMs = tonumber(ARGV[4])
${REMEMBERED_LUA}
local ids, publishedMs, isReplay = {}, {}, {}

local function readMessages(first)
  for at = first, #ARGV, 3 do
    local index, id = #ids + 1, ARGV[at]
    ids[index] = id
    publishedMs[id] = math.max(publishedMs[id] or 0, tonumber(ARGV[at + 1]))
    isReplay[id] = isReplay[id] or ARGV[at + 2] == '1'
  end
end

-- When each of the ids that are marked dead was published.
local function dead()
  local found = {}
  for from = 1, #ids, SOME do
    local to = math.min(from + SOME - 1, #ids)
    for index, score in ipairs(call('ZMSCORE', KEYS[2], unpack(ids, from, to))) do
      if score then found[ids[from + index - 1]] = tonumber(score) end
    end
  end
  return found
end

-- Nobody's clock is that far ahead; and nothing is remembered for longer than two windows.
local function boundedMs(id) return math.min(publishedMs[id], nowMs + windowMs) end

local function markDead(id)
  call('ZADD', KEYS[2], string.format('%.0f', boundedMs(id)), id)
  call('PEXPIRE', KEYS[2], string.format('%.0f', 2 * windowMs + SPARE_MS))
end

-- Answers with the marks, and remembers known ids for as long as their latest copy asks for.
local function marked(answer, applied, buried)
  for index, id in ipairs(ids) do
    local mark = applied[id] and 'a' or buried[id] and 'd'
    if mark then
      answer[#answer + 1] = index
      answer[#answer + 1] = mark
      if mark == 'd' and boundedMs(id) > buried[id] then markDead(id) end
    end
  end
  refresh(applied, publishedMs)
  return answer
end
`;

export const LOAD: Script = script(
  'load',
  `${GUARD_LUA}${MESSAGES_LUA}
local state = call('HMGET', KEYS[1], 't', 'o', 'n', 'v', 'g')
if isStale(state[1], state[2]) then return { 'stale', state[1] } end
raise()
if not state[3] then call('PEXPIRE', KEYS[1], memoryMs) end
local answer = { 'loaded', tonumber(state[3] or '0'), state[4] }
if #ARGV == 4 then return answer end
readMessages(5)
recall(state[5])
marked(answer, known(ids), dead())
if state[5] then call('HSET', KEYS[1], 'g', packed()) end
return answer
`,
);

export const COMMIT: Script = script(
  'commit',
  `${GUARD_LUA}${MESSAGES_LUA}
local commitId, expected, value = ARGV[5], tonumber(ARGV[6]), ARGV[7]
local state = call('HMGET', KEYS[1], 't', 'o', 'n', 'c', 'g')
local version = tonumber(state[3] or '0')
if state[4] == commitId then
  call('HSET', KEYS[1], 'c', commitId)
  return { 'committed', version }
end
if isStale(state[1], state[2]) then return { 'stale', state[1] } end
raise()
if version == 0 then call('PEXPIRE', KEYS[1], memoryMs) end
if version ~= expected then return { 'moved', version } end

readMessages(8)
recall(state[5])
local applied, buried = known(ids), dead()
for id in pairs(buried) do
  if isReplay[id] then buried[id] = nil end
end
if next(applied) or next(buried) then
  local answer = marked({ 'known' }, applied, buried)
  if state[5] then call('HSET', KEYS[1], 'g', packed()) end
  return answer
end
local old = { 'old' }
local oldestMs = math.max(forgottenMs, nowMs - windowMs)
for index, id in ipairs(ids) do
  if publishedMs[id] <= oldestMs or publishedMs[id] > nowMs + windowMs then old[#old + 1] = index end
end
if #old > 1 then return old end

local fresh, seen, untilMs = {}, {}, 0
for _, id in ipairs(ids) do
  if not seen[id] then
    seen[id] = true
    fresh[#fresh + 1] = id
    untilMs = math.max(untilMs, publishedMs[id])
    if isReplay[id] then call('ZREM', KEYS[2], id) end
  end
end
forgetTheOld()
if #fresh > 0 then remember(fresh, untilMs) end
call('HSET', KEYS[1], 'n', version + 1, 'v', value, 'c', commitId, 'g', packed())
if version == 0 then call('PERSIST', KEYS[1]) end
return { 'committed', version + 1 }
`,
);

export const MARK_DEAD: Script = script(
  'markDead',
  `${GUARD_LUA}${MESSAGES_LUA}
local remembered = call('HGET', KEYS[1], 'g')
readMessages(5)
recall(remembered)
local applied, buried = known(ids), dead()
for _, id in ipairs(ids) do
  if not applied[id] and not buried[id] then
    markDead(id)
    buried[id] = boundedMs(id)
  end
end
local answer = marked({ 'marked' }, applied, buried)
call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', nowMs - windowMs))
if remembered then call('HSET', KEYS[1], 'g', packed()) end
return answer
`,
);

/** KEYS the state. */
export const PEEK: Script = script('peek', "return redis.call('HGET', KEYS[1], 'v')");
