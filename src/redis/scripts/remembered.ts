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
 * | flags     | 1 while messages may be marked as dead-lettered, and 2 where other generations have something      |
 * | current   | the generation that is written                                                                     |
 * | begun     | when it was begun, in ms                                                                           |
 * | forgotten | messages published up to then may have been forgotten                                              |
 * | count, latest, size | how many ids its hash has, when the latest of all its messages was published, in ms, and how many of its ids stand here |
 * | young     | these ids                                                                                          |
 * | others    | only with the flag: count, latest and size of the generation that comes next and of the one after it, then their young |
 * | commit    | the id of the last commit; empty before the first                                                  |
 *
 * A message is judged only when it was published after `forgotten` and within the window. So nothing is applied twice when
 * the server's clock is set back, when the window is made longer, or when a generation was evicted: what may have been
 * forgotten is too old.
 */

/** Bytes of an id; src/redis/state-messages.ts makes them. */
export const WIDTH = 10;
/** The numbers of a record, in the order of the table above. */
export const CURRENT_FORMAT = '<BBddI4dB';
export const OTHERS_FORMAT = '<I4dBI4dB';
/** The most ids of a generation that stand in the state. */
const YOUNG = 50;
const IN_A_FIELD = 20;
/** A field of each hash that is always there: without it, the hash is gone. */
const HERE = 'h';
/** Expiries are that much later than they need be, so that few commits have to move one. */
export const SPARE_MS = 60_000;
const STEP_MS = 30_000;
/** So many values at most go to a command, or come from one: Lua's stack has an end. */
export const SOME = 1_000;

/** The variables of `REMEMBERED_LUA`. */
export const REMEMBERED_VARIABLES_LUA: string = `
local current, begunMs, forgottenMs, mayHaveDead
-- Of the current generation: how many ids its hash has, when its latest message was published, its youngest ids, packed, and
-- those that are new.
local count, latestMs, young, added
-- The same of the other generations, by their numbers; nil where they have nothing.
local others
-- The record, and where the last commit stands in it.
local recalled, commitAt
-- The greatest power of two that is not above: asked again and again for the same number.
local asked, power = 1, 1
`;

/**
 * What nearly every operation needs, for state.ts, which has `call`, `text`, `sub`, `find`, `byte`, `char`, `max`, `min`, `floor`, `keys`,
 * `nowMs`, `windowMs`, `named`, `rarely`, and for each operation `state`, `first` and `distinct`. Nothing is written before `remember` or `refresh`, and
 * nothing that they change lasts until `record` is written.
 */
export const REMEMBERED_LUA: string = `
local function hashOf(generation)
  if named > 1 then return keys[first + 1 + generation] end
  return 'leasehold:i' .. generation .. ':' .. state
end

-- The young of the generation are still known.
local function forgetHash(generation)
  local other = generation ~= current and others[generation]
  forgottenMs = max(forgottenMs, other and other.latestMs or latestMs)
  if other then other.count = 0 else count = 0 end
end

local function nextTo(generation) return generation % 3 + 1 end

local function recallOthers(at)
  local one, two, sizeOfOne, sizeOfTwo = {}, {}, nil, nil
  one.count, one.latestMs, sizeOfOne, two.count, two.latestMs, sizeOfTwo, at =
    struct.unpack('${OTHERS_FORMAT}', recalled, at)
  local middle = at + sizeOfOne * ${WIDTH}
  commitAt = middle + sizeOfTwo * ${WIDTH}
  one.young, two.young = sub(recalled, at, middle - 1), sub(recalled, middle, commitAt - 1)
  others = { [nextTo(current)] = one, [nextTo(nextTo(current))] = two }
end

-- From the field of the state; false when there is none yet.
local function recall(record)
  recalled, others, added = record, nil, ''
  if not record then
    current, begunMs, forgottenMs, mayHaveDead = 1, nowMs, 0, false
    count, latestMs, young = 0, 0, ''
    return
  end
  local flags, size, at
  flags, current, begunMs, forgottenMs, count, latestMs, size, at = struct.unpack('${CURRENT_FORMAT}', record)
  mayHaveDead = flags % 2 == 1
  commitAt = at + size * ${WIDTH}
  young = sub(record, at, commitAt - 1)
  if flags > 1 then recallOthers(commitAt) end
end

-- Empty before the first.
local function lastCommit() return recalled and sub(recalled, commitAt) or '' end

local function recordOfOthers()
  local one, two = others[nextTo(current)], others[nextTo(nextTo(current))]
  if one.latestMs == 0 and two.latestMs == 0 then return '' end
  return struct.pack('${OTHERS_FORMAT}', one.count, one.latestMs, #one.young / ${WIDTH},
    two.count, two.latestMs, #two.young / ${WIDTH}) .. one.young .. two.young
end

-- What \`recall\` reads.
local function record(commitId)
  local rest = others and recordOfOthers() or ''
  local flags = (mayHaveDead and 1 or 0) + (rest ~= '' and 2 or 0)
  return struct.pack('${CURRENT_FORMAT}', flags, current, begunMs, forgottenMs, count, latestMs,
    (#young + #added) / ${WIDTH}) .. young .. added .. rest .. commitId
end

local function holds(packed, id)
  local at = find(packed, id, 1, true)
  while at and at % ${WIDTH} ~= 1 do at = find(packed, id, at + 1, true) end
  return at ~= nil
end

local function fieldsFor(count) return floor(count / ${IN_A_FIELD}) + 1 end

local function powerBelow(number)
  if number ~= asked then
    asked, power = number, 1
    while power * 2 <= number do power = power * 2 end
  end
  return power
end

-- As the number of a field, of so many.
local function fieldOf(id, fields)
  local a, b, c, d = byte(id, 1, 4)
  local half = powerBelow(fields)
  local field = (a + b * 128 + c * 16384 + d * 2097152) % (2 * half)
  return field < fields and field or field - half
end

-- In three bytes, which are made much faster than its digits.
local function nameOf(field) return char(field % 256, floor(field / 256) % 256, floor(field / 65536)) end

-- Looks for the ids in the hash of a generation.
local function lookForAll(generation, size, found)
  local all = fieldsFor(size)
  for from = 1, #distinct, ${SOME} do
    local names, to = {}, min(from + ${SOME} - 1, #distinct)
    for index = from, to do names[index - from + 1] = nameOf(fieldOf(distinct[index], all)) end
    local some = call('HMGET', hashOf(generation), '${HERE}', unpack(names))
    if not some[1] then
      forgetHash(generation)
      return found
    end
    for index = from, to do
      local id, there = distinct[index], some[index - from + 2]
      if there and holds(there, id) and not (found and found[id]) then
        found = found or {}
        found[id] = generation
      end
    end
  end
  return found
end

-- Looks for the ids in what a generation has, and notes for those that are there which one it is.
local function lookIn(generation, size, packed, found)
  if packed ~= '' then
    for index = 1, #distinct do
      local id = distinct[index]
      if holds(packed, id) and not (found and found[id]) then
        found = found or {}
        found[id] = generation
      end
    end
  end
  if size == 0 then return found end
  local id = distinct[1]
  if distinct[2] then return lookForAll(generation, size, found) end
  -- Nearly always it is one, which needs no table.
  local some = call('HMGET', hashOf(generation), '${HERE}', nameOf(fieldOf(id, fieldsFor(size))))
  if not some[1] then
    forgetHash(generation)
  elseif some[2] and holds(some[2], id) then
    found = found or { [id] = generation }
  end
  return found
end

-- Of the messages' ids, those that are remembered, with the generation that has them; nil for none.
local function known()
  if not distinct[1] then return nil end
  local found = lookIn(current, count, young)
  if not others then return found end
  local one, two = nextTo(current), nextTo(nextTo(current))
  found = lookIn(one, others[one].count, others[one].young, found)
  return lookIn(two, others[two].count, others[two].young, found)
end

-- Adds ids that the current generation has not, until the latest of them is older than the window.
local function remember(fresh, untilMs)
  local earlierMs, isMade = latestMs, false
  if untilMs > latestMs then latestMs = untilMs end
  if #young / ${WIDTH} + #fresh <= ${YOUNG} then
    added = fresh[2] and table.concat(fresh) or fresh[1] or ''
  else
    isMade = count == 0
    rarely().moveToHash(fresh)
  end
  if count == 0 then return end
  if isMade or floor(latestMs / ${STEP_MS}) > floor(earlierMs / ${STEP_MS}) then
    call('PEXPIREAT', hashOf(current), text(latestMs + windowMs + ${SPARE_MS}))
  end
end

-- Drops generations of which every message is too old, and begins the next one when it is time.
local function forgetTheOld()
  local oldestMs = nowMs - windowMs
  if latestMs > 0 and latestMs <= oldestMs then
    if count > 0 then call('UNLINK', hashOf(current)) end
    forgetHash(current)
    latestMs, young = 0, ''
  end
  if others then
    for generation, other in pairs(others) do
      if other.latestMs > 0 and other.latestMs <= oldestMs then rarely().forget(generation, other) end
    end
  end
  if latestMs == 0 then
    begunMs = nowMs
  elseif nowMs - begunMs >= windowMs / 2 then
    local following = others and others[nextTo(current)]
    -- Unless that one still has something.
    if not following or following.latestMs == 0 then rarely().beginNext() end
  end
end
`;

/** What is made only where it is needed, as functions of the table `rare`, for which `boundedMs` has to be there. */
export const RARELY_REMEMBERED_LUA: string = `
  -- The texts of fields of the current hash, by their names. Those that are not there are no texts.
  local function textsOf(key, names)
    local texts = {}
    for from = 1, #names, ${SOME} do
      local to = min(from + ${SOME} - 1, #names)
      local some = call('HMGET', key, unpack(names, from, to))
      for index = from, to do texts[names[index]] = some[index - from + 1] end
    end
    return texts
  end

  -- Writes ids to the hash of the current generation, which may have to be made.
  local function addToHash(some)
    local key = hashOf(current)
    if count > 0 and call('EXISTS', key) == 0 then forgetHash(current) end
    local before, after = fieldsFor(count), fieldsFor(count + #some)
    -- By field, what is to be added; and which there are.
    local fresh, names = {}, {}
    local function add(id)
      local name = nameOf(fieldOf(id, after))
      local packed = fresh[name]
      if not packed then names[#names + 1] = name end
      fresh[name] = packed and packed .. id or id
    end
    for index = 1, #some do add(some[index]) end
    local there = {}
    if count > 0 then
      -- Those that are split, to add anew what is in them.
      local roots, isRoot = {}, {}
      for field = before, after - 1 do
        local root = field
        while root >= before do root = root - powerBelow(root) end
        local name = nameOf(root)
        if not isRoot[name] then
          isRoot[name] = true
          roots[#roots + 1] = name
        end
      end
      for name, packed in pairs(textsOf(key, roots)) do
        for at = 1, packed and #packed or 0, ${WIDTH} do add(sub(packed, at, at + ${WIDTH} - 1)) end
      end
      there = textsOf(key, names)
      for _, name in ipairs(roots) do
        there[name] = false
        if not fresh[name] then
          fresh[name] = ''
          names[#names + 1] = name
        end
      end
    else
      -- What is there was left by a state that somebody removed.
      call('UNLINK', key)
    end
    local fields = { '${HERE}', '1' }
    for index = 1, #names do
      local name = names[index]
      fields[#fields + 1] = name
      fields[#fields + 1] = there[name] and there[name] .. fresh[name] or fresh[name]
      if #fields >= ${SOME} then
        call('HSET', key, unpack(fields))
        fields = {}
      end
    end
    if #fields > 0 then call('HSET', key, unpack(fields)) end
    count = count + #some
  end

  -- Moves the young ids of the current generation to its hash, and these with them.
  function rare.moveToHash(fresh)
    local all = {}
    for at = 1, #young, ${WIDTH} do all[#all + 1] = sub(young, at, at + ${WIDTH} - 1) end
    for _, id in ipairs(fresh) do all[#all + 1] = id end
    addToHash(all)
    young = ''
  end

  -- A message that is known and was published later than what is remembered of it: its other copies are younger, too.
  local function refresh(found)
    local late, untilMs = {}, 0
    for id, generation in pairs(found) do
      local latestThere = generation == current and latestMs or others[generation].latestMs
      if boundedMs(id) > latestThere then
        untilMs = max(untilMs, boundedMs(id))
        if generation ~= current then late[#late + 1] = id end
      end
    end
    if untilMs > 0 then remember(late, untilMs) end
  end

  function rare.forget(generation, other)
    if other.count > 0 then call('UNLINK', hashOf(generation)) end
    forgetHash(generation)
    other.latestMs, other.young = 0, ''
  end

  function rare.beginNext()
    local following = nextTo(current)
    local third = nextTo(following)
    others = {
      [current] = { count = count, latestMs = latestMs, young = young },
      [third] = others and others[third] or { count = 0, latestMs = 0, young = '' },
    }
    current, begunMs, count, latestMs, young = following, nowMs, 0, 0, ''
  end
`;
