/**
 * What a node knows about itself, for the scripts to begin with: whether it remembers all that it may have granted.
 *
 * It is kept in one hash without expiry. The fields that are numbers are hash slots (as a cluster counts them) of the
 * locks' names, and hold the highest epoch of each; so they need no expiry, and take no more than some megabyte. The field
 * `node` is the marker, `state longest floor witness run since`. Being together, they are read by one command, and lost
 * together.
 *
 * | part    | is                                                                                                |
 * |---------|---------------------------------------------------------------------------------------------------|
 * | state   | `votes`, or `new` (there was no marker) or `back` (another run) while the node abstains           |
 * | longest | the longest ttl that any client may use here, in milliseconds                                     |
 * | floor   | every epoch that this node may have accepted and forgotten is at or below it                      |
 * | witness | a channel that a connection to that process has subscribed to, or nothing                         |
 * | run     | the run id of the process that was seen last; another one means that writes may have been lost    |
 * | since   | when it began to abstain, in milliseconds of its own clock                                        |
 *
 * It is read in each run of a script and not kept by clients: they cannot know to which process their next request goes.
 *
 * `INFO` costs more than all the rest, and so it is asked only when there is no witness. The name of a witness is drawn
 * at random for one subscription over one connection, and so to one process, and it is written here only by a script
 * that has compared the run ids while somebody listened there. Subscriptions end with their process. Where somebody still
 * listens, the process is that one.
 */
export const TRUSTED_LUA = `
local MEMORY = 'leasehold:redlock'

-- The floor, when the marker says that this process votes; nil when that has to be looked into. A client is its word
-- on durability, its longest ttl, and its witness.
local function trusted(marker, client)
  local longest, floor, witness = string.match(marker or '', '^votes (%d+) (%d+) (%S*) ')
  if not longest or tonumber(longest) < tonumber(string.match(client, '^%d (%d+)')) then return nil end
  if string.byte(client) == 49 or (witness ~= '' and call('PUBSUB', 'NUMSUB', witness)[2] > 0) then
    return tonumber(floor)
  end
  return nil
end
`;

export const STANDING_LUA = `
local function text(number) return string.format('%.0f', number) end

local function markerOf(state, longest, floor, witness, run, since)
  return table.concat({ state, text(longest), text(floor), witness, run, text(since) }, ' ')
end

-- The marker's parts, brought up to date, and the clock. A durable node loses nothing in a restart; without a marker it
-- is new.
local function standing(client)
  local durable, maxTtl, own = string.match(client, '^(%d) (%d+) (%S*)$')
  local known = call('HGET', MEMORY, 'node')
  local state, longest, floor, run, since =
    string.match(known or '', '^(%a+) (%d+) (%d+) %S* (%x+) (%d+)$')
  local info = call('INFO', 'server')
  local isSame = run and (durable == '1' or string.find(info, 'run_id:' .. run, 1, true))
  local witness = call('PUBSUB', 'NUMSUB', own)[2] > 0 and own or ''
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
  elseif state ~= 'votes' and tonumber(since) > timeMs() then
    -- The clock was set back: that must not make it wait for longer.
    since = timeMs()
  end
  if not isSame then run = string.match(info, 'run_id:(%x+)') end
  longest, floor = math.max(tonumber(longest or 0), tonumber(maxTtl)), tonumber(floor or 0)
  local marker = markerOf(state, longest, floor, witness, run, since)
  if marker ~= known then call('HSET', MEMORY, 'node', marker) end
  return run, state, since, longest, floor, witness, timeMs
end
`;
