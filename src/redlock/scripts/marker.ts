/**
 * What a node knows about itself, for the scripts to begin with: whether it remembers all that it may have granted.
 *
 * The marker is a string without expiry, `run state since longest floor`:
 *
 * | part    | is                                                                                                |
 * |---------|---------------------------------------------------------------------------------------------------|
 * | run     | the run id of the process that was seen last; another one means that writes may have been lost    |
 * | state   | `votes`, or `new` (there was no marker) or `back` (another run) while the node abstains           |
 * | since   | when it began to abstain, in milliseconds of its own clock                                        |
 * | longest | the longest ttl that any client may use here, in milliseconds                                     |
 * | floor   | every epoch that this node may have accepted and forgotten is at or below it                      |
 *
 * It is read in each run of a script and not kept by clients: they cannot know to which process their next request goes.
 */
export const MARKER_LUA = `
-- The marker's parts, brought up to date, and the clock. A durable node loses nothing in a restart; without a marker it
-- is new.
local function standing(key, durable, maxTtl)
  local known = call('GET', key)
  local run, state, since, longest, floor =
    string.match(known or '', '^(%x+) (%a+) (%d+) (%d+) (%d+)$')
  local isSame = run and durable
  local info
  if not isSame then
    info = call('INFO', 'server')
    isSame = run and string.find(info, 'run_id:' .. run, 1, true)
  end
  if isSame and state == 'votes' and tonumber(longest) >= maxTtl then
    return run, state, since, longest, tonumber(floor)
  end
  local clockMs
  local function timeMs()
    if not clockMs then
      local time = call('TIME')
      clockMs = time[1] * 1000 + math.floor(time[2] / 1000)
    end
    return clockMs
  end
  if not isSame then
    state, since = run and 'back' or 'new', timeMs()
    run = string.match(info, 'run_id:(%x+)')
  elseif state ~= 'votes' and tonumber(since) > timeMs() then
    -- The clock was set back: that must not make it wait for longer.
    since = timeMs()
  end
  longest, floor = math.max(tonumber(longest or 0), maxTtl), tonumber(floor or 0)
  local marker = table.concat({ run, state, text(since), text(longest), text(floor) }, ' ')
  if marker ~= known then call('SET', key, marker) end
  return run, state, since, longest, floor, timeMs
end
`;
