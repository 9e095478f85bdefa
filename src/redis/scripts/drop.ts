/**
 * `drop`: ends a claim, held or queued, and hands the key to the next waiter. `nextClaim`, when there is one and the
 * dropped claim was held, is made in the same step, behind everyone who waits already.
 *
 * gives 1 when it was held, else 0; with a next claim that was made, {1, its answer}
 */
export const DROP_LUA = `
local function drop(owner, nextClaim)
  local wasHeld = held(owner) ~= nil
  if holder and holder.owner == owner then
    call('DEL', lock)
    value, holder = false, nil
  else
    remove(owner)
    freeIfUnshared()
  end
  if wasHeld and nextClaim then return { 1, nextClaim() } end
  prune(owner)
  drain(owner)
  return wasHeld and 1 or 0
end
`;
