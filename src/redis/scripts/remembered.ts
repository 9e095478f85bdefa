/**
 * The ids of messages that were applied to one state, remembered for a window of time in some eleven bytes each.
 *
 * An id is a hash of `WIDTH` bytes. There are three generations of them, of which one is written. It is half a window old
 * when the next one is begun, and it is forgotten whole when its latest message is older than the window.
 *
 * The youngest ids of a generation stand packed in the state itself, so that nearly every commit is one read and one write
 * of one key. When there are more than fifty, all of them go to a hash of the generation's own. There they stand
 * some twenty in a field, and there are as many fields as their number asks for: with one more, only the entries of one other
 * field are split (linear hashing: Litwin, VLDB 1980). So a look costs one short field, and no step ever moves much.
 *
 * A hash expires by itself; the few ids in the state are forgotten by the first commit after their time.
 *
 * What a state keeps of all of them is one field, `r`:
 *
 * | part      | holds                                                                                              |
 * |-----------|----------------------------------------------------------------------------------------------------|
 * | current   | the generation that is written                                                                     |
 * | dead      | 1 while messages may be marked as dead-lettered                                                    |
 * | begun     | when the generation was begun, in ms                                                               |
 * | forgotten | messages published up to then may have been forgotten                                              |
 * | 3 × count, latest, young | how many ids a generation's hash has, when the latest of all its messages was published, in ms, and how many of its ids stand here |
 * | young     | these ids, one generation after the other                                                          |
 * | commit    | the id of the last commit; empty before the first                                                  |
 *
 * A message is judged only when it was published after `forgotten` and within the window. So nothing is applied twice when
 * the server's clock is set back, when the window is made longer, or when a generation was evicted: what may have been
 * forgotten is too old.
 */

/** Bytes of an id; src/redis/state.ts makes them. */
export const WIDTH = 10;
/** The numbers at the start of a record, in the order of the table above. */
export const RECORD_FORMAT = '<BBddI4dBI4dBI4dB';

/**
 * For state.ts, which has `call`, `text`, `nowMs`, `windowMs`, `named`, and for each operation `state`, `first`, `ids`, `distinct` and `publishedMs`.
 * Nothing is written before `remember` or `refresh`, and nothing that they change lasts until `record` is written.
 */
export const REMEMBERED_LUA: string = `
local WIDTH, IN_A_FIELD, YOUNG, GENERATIONS, SOME = ${WIDTH}, 20, 50, 3, 1000
-- Expiries are that much later than they need be, so that few commits have to move one.
local SPARE_MS, STEP_MS = 60000, 30000
local FORMAT = '${RECORD_FORMAT}'
-- A field of each hash that is always there: without it, the hash is gone.
local HERE = 'h'

local current, begunMs, forgottenMs, mayHaveDead, lastCommit
local counts, latestMs = {}, {}
-- The youngest ids of each generation, packed; empty for none.
local young = {}
-- The fields of hashes that were read, by generation.
local texts

local function hashOf(generation)
  if named > 1 then return KEYS[first + 1 + generation] end
  return 'leasehold:i' .. generation .. ':' .. state
end

-- The young of the generation are still known.
local function forgetHash(generation)
  counts[generation], forgottenMs = 0, math.max(forgottenMs, latestMs[generation])
end

local function forget(generation)
  forgetHash(generation)
  latestMs[generation], young[generation] = 0, ''
end

-- From the field of the state; false when there is none yet.
local function recall(record)
  texts = nil
  if not record then
    current, mayHaveDead, begunMs, forgottenMs, lastCommit = 1, false, nowMs, 0, ''
    for generation = 1, GENERATIONS do
      counts[generation], latestMs[generation], young[generation] = 0, 0, ''
    end
    return
  end
  local flag, one, two, three, at
  current, flag, begunMs, forgottenMs, counts[1], latestMs[1], one, counts[2], latestMs[2], two,
    counts[3], latestMs[3], three, at = struct.unpack(FORMAT, record)
  mayHaveDead = flag == 1
  one, two, three = at + one * WIDTH, two * WIDTH, three * WIDTH
  young[1] = string.sub(record, at, one - 1)
  young[2], young[3] = '', ''
  if two + three > 0 then
    young[2] = string.sub(record, one, one + two - 1)
    young[3] = string.sub(record, one + two, one + two + three - 1)
  end
  lastCommit = string.sub(record, one + two + three)
end

-- What \`recall\` reads.
local function record()
  local one, two, three = young[1], young[2], young[3]
  return struct.pack(FORMAT, current, mayHaveDead and 1 or 0, begunMs, forgottenMs,
    counts[1], latestMs[1], #one / WIDTH, counts[2], latestMs[2], #two / WIDTH,
    counts[3], latestMs[3], #three / WIDTH) .. one .. two .. three .. lastCommit
end

local function holds(packed, id)
  local at = string.find(packed, id, 1, true)
  while at and at % WIDTH ~= 1 do at = string.find(packed, id, at + 1, true) end
  return at ~= nil
end

local function fieldsFor(count) return math.floor(count / IN_A_FIELD) + 1 end

-- The greatest power of two that is not above: asked again and again for the same number.
local asked, power = 1, 1
local function powerBelow(number)
  if number ~= asked then
    asked, power = number, 1
    while power * 2 <= number do power = power * 2 end
  end
  return power
end

local function fieldOf(id, fields)
  local a, b, c, d = string.byte(id, 1, 4)
  local half = powerBelow(fields)
  local field = (a + b * 128 + c * 16384 + d * 2097152) % (2 * half)
  return field < fields and field or field - half
end

-- The texts of these fields of a hash, and of those that were read before; nil when the hash is gone.
local function textsOf(generation, fields)
  texts = texts or { {}, {}, {} }
  local known = texts[generation]
  local missing = {}
  for field in pairs(fields) do
    if not known[field] then missing[#missing + 1] = field end
  end
  for from = 1, #missing, SOME do
    local to = math.min(from + SOME - 1, #missing)
    local some = call('HMGET', hashOf(generation), HERE, unpack(missing, from, to))
    if not some[1] then return nil end
    for index = from, to do known[missing[index]] = some[index - from + 2] or '' end
  end
  return known
end

-- Looks for ids in the hash of a generation, and notes those that it has.
local function lookInHash(generation, found)
  local all = fieldsFor(counts[generation])
  if #distinct == 1 then
    -- Nearly always, and without a table for each step.
    local id = distinct[1]
    local some = call('HMGET', hashOf(generation), HERE, fieldOf(id, all))
    if not some[1] then
      forgetHash(generation)
    elseif not found and some[2] and holds(some[2], id) then
      found = { [id] = generation }
    end
    return found
  end
  local fields, fieldOfId = {}, {}
  for _, id in ipairs(distinct) do
    local field = fieldOf(id, all)
    fieldOfId[id], fields[field] = field, true
  end
  local there = textsOf(generation, fields)
  if not there then
    forgetHash(generation)
    return found
  end
  for id, field in pairs(fieldOfId) do
    if not (found and found[id]) and holds(there[field], id) then
      found = found or {}
      found[id] = generation
    end
  end
  return found
end

-- Of the messages' ids, those that are remembered, with the generation that has them; nil for none.
local function known()
  local found
  for step = 0, GENERATIONS - 1 do
    local generation = (current - 1 + step) % GENERATIONS + 1
    local packed = young[generation]
    if packed ~= '' then
      for index = 1, #distinct do
        local id = distinct[index]
        if not (found and found[id]) and holds(packed, id) then
          found = found or {}
          found[id] = generation
        end
      end
    end
    if counts[generation] > 0 then found = lookInHash(generation, found) end
  end
  return found
end

-- Writes ids to the hash of the current generation, which may have to be made.
local function addToHash(some)
  local key, count = hashOf(current), counts[current]
  local before, after = fieldsFor(count), fieldsFor(count + #some)
  local needed, splits, there, fieldOfId = {}, {}, {}, {}
  for field = before, after - 1 do
    local root = field
    while root >= before do root = root - powerBelow(root) end
    needed[root], splits[root] = true, true
  end
  for _, id in ipairs(some) do
    local field = fieldOf(id, after)
    fieldOfId[id] = field
    if field < before then needed[field] = true end
  end
  if count > 0 then
    there = textsOf(current, needed)
  else
    -- What is there was left by a state that somebody removed.
    call('UNLINK', key)
  end
  local changed = {}
  for root in pairs(splits) do
    local packed = there[root] or ''
    changed[root] = ''
    for at = 1, #packed, WIDTH do
      local id = string.sub(packed, at, at + WIDTH - 1)
      local field = fieldOf(id, after)
      changed[field] = (changed[field] or '') .. id
    end
  end
  for id, field in pairs(fieldOfId) do
    changed[field] = (changed[field] or there[field] or '') .. id
  end
  local fields = { HERE, '1' }
  for field, packed in pairs(changed) do
    fields[#fields + 1] = field
    fields[#fields + 1] = packed
    if #fields >= SOME then
      call('HSET', key, unpack(fields))
      fields = {}
    end
  end
  if #fields > 0 then call('HSET', key, unpack(fields)) end
  counts[current], texts = count + #some, nil
end

-- Adds ids that the current generation has not, until the latest of them is older than the window.
local function remember(fresh, untilMs)
  local earlierMs, packed = latestMs[current], young[current]
  latestMs[current] = math.max(earlierMs, untilMs)
  local size = #packed / WIDTH + #fresh
  local isMade = false
  if size <= YOUNG then
    young[current] = packed .. table.concat(fresh)
  else
    isMade = counts[current] == 0
    local all = {}
    for at = 1, #packed, WIDTH do all[#all + 1] = string.sub(packed, at, at + WIDTH - 1) end
    for _, id in ipairs(fresh) do all[#all + 1] = id end
    addToHash(all)
    young[current] = ''
  end
  local isLater = math.floor(latestMs[current] / STEP_MS) > math.floor(earlierMs / STEP_MS)
  if isMade or isLater and counts[current] > 0 then
    call('PEXPIREAT', hashOf(current), text(latestMs[current] + windowMs + SPARE_MS))
  end
end

-- Nobody's clock is that far ahead; and nothing is remembered for longer than two windows.
local function boundedMs(id) return math.min(publishedMs[id], nowMs + windowMs) end

-- A message that is known and was published later than what is remembered of it: its other copies are younger, too.
local function refresh(found)
  local late, untilMs = {}, 0
  for id, generation in pairs(found) do
    if boundedMs(id) > latestMs[generation] then
      untilMs = math.max(untilMs, boundedMs(id))
      if generation ~= current then late[#late + 1] = id end
    end
  end
  if untilMs > 0 then remember(late, untilMs) end
end

-- Drops generations of which every message is too old, and begins the next one when it is time.
local function forgetTheOld()
  for generation = 1, GENERATIONS do
    if latestMs[generation] > 0 and latestMs[generation] <= nowMs - windowMs then
      if counts[generation] > 0 then call('UNLINK', hashOf(generation)) end
      forget(generation)
    end
  end
  local following = current % GENERATIONS + 1
  if latestMs[current] == 0 then
    begunMs = nowMs
  elseif nowMs - begunMs >= windowMs / 2 and latestMs[following] == 0 then
    current, begunMs = following, nowMs
  end
end
`;
