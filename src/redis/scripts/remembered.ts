/**
 * The ids of messages that were applied to one state, remembered for a window of time in some eleven bytes each.
 *
 * An id is a hash of `WIDTH` bytes. Ids stand packed in the fields of a hash, some fifty in a field, and there are as many
 * fields as their number asks for: with one more, only the entries of one other field are split (linear hashing: Litwin,
 * VLDB 1980). So a look costs one short field, and no step ever moves much.
 *
 * There are three such hashes, generations, of which one is written. It is half a window old when the next one is begun,
 * and it is forgotten whole when its latest message is older than the window. What a state keeps of them is one field of
 * its own, `g`:
 *
 * | part      | holds                                                                                              |
 * |-----------|----------------------------------------------------------------------------------------------------|
 * | current   | the generation that is written                                                                     |
 * | begun     | when it was begun, in ms                                                                           |
 * | forgotten | messages published up to then may have been forgotten                                              |
 * | 3 × count, latest | how many ids a generation has, and when the latest of its messages was published, in ms    |
 *
 * A message is judged only when it was published after `forgotten` and within the window. So nothing is applied twice when
 * the server's clock is set back, when the window is made longer, or when a generation was evicted: what may have been
 * forgotten is too old.
 */

/** Bytes of an id; src/redis/state.ts makes them. */
export const WIDTH = 10;

/**
 * For scripts whose third key and the two after it are the generations, with the fence's guard around them, and
 * `windowMs`. Nothing is written before `remember` or `refresh`, and nothing of `g` before `packed` is saved.
 */
export const REMEMBERED_LUA: string = `
local WIDTH, IN_A_FIELD, GENERATIONS, SOME = ${WIDTH}, 50, 3, 1000
-- Expiries are that much later than they need be, so that few commits have to move one.
local SPARE_MS, STEP_MS = 60000, 30000
local FORMAT = '<BddI4dI4dI4d'

local isNew = false
local current, begunMs, forgottenMs = 1, nowMs, 0
local counts, latestMs = { 0, 0, 0 }, { 0, 0, 0 }
-- Fields that were read, by generation.
local texts = { {}, {}, {} }

local function packed()
  return struct.pack(FORMAT, current, begunMs, forgottenMs,
    counts[1], latestMs[1], counts[2], latestMs[2], counts[3], latestMs[3])
end

local function forget(generation)
  forgottenMs = math.max(forgottenMs, latestMs[generation])
  counts[generation], latestMs[generation], texts[generation] = 0, 0, {}
end

local function recall(text)
  if not text then
    isNew = true
    return
  end
  current, begunMs, forgottenMs, counts[1], latestMs[1], counts[2], latestMs[2], counts[3], latestMs[3] =
    struct.unpack(FORMAT, text)
  for generation = 1, GENERATIONS do
    if counts[generation] > 0 and call('EXISTS', KEYS[2 + generation]) == 0 then forget(generation) end
  end
end

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

local function fieldsFor(count) return math.floor(count / IN_A_FIELD) + 1 end

-- The texts of these fields, and of those that were read before.
local function read(generation, fields)
  local known = texts[generation]
  local missing = {}
  for _, field in ipairs(fields) do
    if not known[field] then missing[#missing + 1] = field end
  end
  for from = 1, #missing, SOME do
    local to = math.min(from + SOME - 1, #missing)
    local some = call('HMGET', KEYS[2 + generation], unpack(missing, from, to))
    for index = from, to do known[missing[index]] = some[index - from + 1] or '' end
  end
  return known
end

local function write(generation, fields)
  local some = {}
  local function flush()
    call('HSET', KEYS[2 + generation], unpack(some))
    some = {}
  end
  for field, pieces in pairs(fields) do
    some[#some + 1] = field
    some[#some + 1] = table.concat(pieces)
    if #some >= SOME then flush() end
  end
  if #some > 0 then flush() end
end

local function holds(text, id)
  local at = string.find(text, id, 1, true)
  while at and at % WIDTH ~= 1 do at = string.find(text, id, at + 1, true) end
  return at ~= nil
end

-- Of these ids, those that are remembered, with the generation that has them.
local function known(ids)
  local found = {}
  for step = 0, GENERATIONS - 1 do
    local generation = (current - 1 + step) % GENERATIONS + 1
    if counts[generation] > 0 then
      local fields, seen, fieldOfId = {}, {}, {}
      local all = fieldsFor(counts[generation])
      for _, id in ipairs(ids) do
        local field = fieldOf(id, all)
        fieldOfId[id] = field
        if not seen[field] then
          seen[field] = true
          fields[#fields + 1] = field
        end
      end
      local there = read(generation, fields)
      for _, id in ipairs(ids) do
        if not found[id] and holds(there[fieldOfId[id]], id) then found[id] = generation end
      end
    end
  end
  return found
end

-- Adds ids that the current generation has not, until the latest of them is older than the window.
local function remember(ids, untilMs)
  local key = KEYS[2 + current]
  if isNew then
    -- Left by a state that somebody removed.
    call('UNLINK', KEYS[3], KEYS[4], KEYS[5])
    isNew = false
  end
  local before, after = fieldsFor(counts[current]), fieldsFor(counts[current] + #ids)
  local function rootOf(field)
    while field >= before do
      local half = 1
      while half * 2 <= field do half = half * 2 end
      field = field - half
    end
    return field
  end
  local splits, roots, list, pieces = {}, {}, {}, {}
  local function need(root)
    if not roots[root] then
      roots[root] = true
      list[#list + 1] = root
    end
  end
  local function put(id)
    local field = fieldOf(id, after)
    pieces[field] = pieces[field] or {}
    table.insert(pieces[field], id)
  end
  for field = before, after - 1 do
    local root = rootOf(field)
    splits[root] = true
    need(root)
  end
  for _, id in ipairs(ids) do need(rootOf(fieldOf(id, after))) end
  local there = read(current, list)
  for _, root in ipairs(list) do
    local text = there[root]
    if splits[root] then
      pieces[root] = pieces[root] or {}
      for at = 1, #text, WIDTH do put(string.sub(text, at, at + WIDTH - 1)) end
    else
      pieces[root] = { text }
    end
  end
  for _, id in ipairs(ids) do put(id) end
  write(current, pieces)
  local isFirst, earlierMs = counts[current] == 0, latestMs[current]
  counts[current] = counts[current] + #ids
  latestMs[current], texts[current] = math.max(earlierMs, untilMs), {}
  if isFirst or math.floor(latestMs[current] / STEP_MS) > math.floor(earlierMs / STEP_MS) then
    call('PEXPIREAT', key, string.format('%.0f', latestMs[current] + windowMs + SPARE_MS))
  end
end

-- A message that is known and was published later than what is remembered of it: its other copies are younger, too.
local function refresh(found, publishedMs)
  local late, untilMs = {}, 0
  for id, generation in pairs(found) do
    if publishedMs[id] > latestMs[generation] then
      untilMs = math.max(untilMs, publishedMs[id])
      if generation ~= current then late[#late + 1] = id end
    end
  end
  if untilMs > 0 then remember(late, untilMs) end
end

-- Drops generations of which every message is too old, and begins the next one when it is time.
local function forgetTheOld()
  for generation = 1, GENERATIONS do
    if counts[generation] > 0 and latestMs[generation] <= nowMs - windowMs then
      forget(generation)
      call('UNLINK', KEYS[2 + generation])
    end
  end
  local following = current % GENERATIONS + 1
  if counts[current] == 0 then
    begunMs = nowMs
  elseif nowMs - begunMs >= windowMs / 2 and counts[following] == 0 then
    current, begunMs = following, nowMs
  end
end
`;
