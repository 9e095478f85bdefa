/**
 * What a node knows about itself, for the scripts to begin with: whether it remembers all that it may have granted.
 *
 * It is kept in one hash without expiry, whose fields are lost together.
 *
 * | field   | holds                                                                                             |
 * |---------|---------------------------------------------------------------------------------------------------|
 * | `node`  | the marker, `state longest floor run since`                                                       |
 * | a number | the highest epoch of a hash slot (as a cluster counts them) of the locks' names; above the floor  |
 * | `w` ms  | only while it votes, with a longest ttl of so many ms or more: its witness, see below             |
 * | `d` ms  | the same for clients that say the node is durable: nothing                                        |
 *
 * | part    | of the marker is                                                                                  |
 * |---------|---------------------------------------------------------------------------------------------------|
 * | state   | `votes`, or `new` (there was no marker) or `back` (another run) while the node abstains           |
 * | longest | the longest ttl that any client may use here, in milliseconds                                     |
 * | floor   | every epoch that this node may have accepted and forgotten is at or below it                      |
 * | run     | the run id of the process that was seen last; another one means that writes may have been lost    |
 * | since   | when it began to abstain, in milliseconds of its own clock                                        |
 *
 * So a claim reads two fields, and takes nothing apart: it finds the node trusted, and the highest epoch of its slot. There
 * are at most 16,384 of these, some megabyte, and they need no expiry. Where one of the two is missing, the marker tells.
 *
 * It is read in each run of a script and not kept by clients: they cannot know to which process their next request goes.
 *
 * `INFO` costs more than all the rest, and so it is asked only when there is no witness. The name of a witness is drawn
 * at random for one subscription over one connection, and so to one process, and it is written here only by a script
 * that has compared the run ids while somebody listened there. Subscriptions end with their process. Where somebody still
 * listens, the process is that one.
 */

/** The hash. */
export const MEMORY_LUA = `
local MEMORY = 'leasehold:redlock'
`;

/** The field of a client. */
export function fieldOf(client: { readonly durable: boolean; readonly maxTtlMs: number }): string {
  return `${client.durable ? 'd' : 'w'}${client.maxTtlMs}`;
}

/** For the scripts: whether the value of the client's field says that this process votes. */
export const IS_TRUSTED: string = `witness and (witness == '' or call('PUBSUB', 'NUMSUB', witness)[2] > 0)`;

export const STANDING_LUA: string = `
local function text(number) return string.format('%.0f', number) end

local function markerOf(state, longest, floor, run, since)
  return table.concat({ state, text(longest), text(floor), run, text(since) }, ' ')
end

-- Nobody trusts it any more before it has been looked into.
local function distrust()
  local all = call('HGETALL', MEMORY)
  for index = 1, #all, 2 do
    if string.find(all[index], '^[wd]') then call('HDEL', MEMORY, all[index]) end
  end
end

-- Once it is known that this process votes: nobody needs to look into that again while a witness is heard.
local function vouch(field, own)
  local witness = call('HGET', MEMORY, field)
  if ${IS_TRUSTED} then return end
  if string.byte(field) == 100 then call('HSET', MEMORY, field, '')
  elseif own and call('PUBSUB', 'NUMSUB', own)[2] > 0 then call('HSET', MEMORY, field, own) end
end

-- The marker's parts, brought up to date, and the clock, for a client with its field and, if it says so, its witness. A
-- durable node loses nothing in a restart; without a marker it is new.
local function standing(field, own)
  local isDurable, maxTtl = string.byte(field) == 100, tonumber(string.sub(field, 2))
  local known = call('HGET', MEMORY, 'node')
  local state, longest, floor, run, since =
    string.match(known or '', '^(%a+) (%d+) (%d+) (%x+) (%d+)$')
  local info = call('INFO', 'server')
  local isSame = run and (isDurable or string.find(info, 'run_id:' .. run, 1, true))
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
    distrust()
  elseif state ~= 'votes' and tonumber(since) > timeMs() then
    -- The clock was set back: that must not make it wait for longer.
    since = timeMs()
  end
  if not isSame then run = string.match(info, 'run_id:(%x+)') end
  longest, floor = math.max(tonumber(longest or 0), maxTtl), tonumber(floor or 0)
  local marker = markerOf(state, longest, floor, run, since)
  if marker ~= known then call('HSET', MEMORY, 'node', marker) end
  if state == 'votes' then vouch(field, own) end
  return run, state, since, longest, floor, timeMs
end
`;
