/**
 * `claim`: a grant, a place in the queue, or a refusal.
 *
 * gives {0, epoch, ttl, 1 when wanted}                                            granted
 *       {1, ms until a lease ends by itself or -1 when another waiter looks at
 *        that, ahead, holder, epoch, 1 when the holder is a foreign client, 1
 *        when a message would reach this process}                                 waiting
 *       {2, holder}                                                               taken
 *       {3, capacity in use}                                                      another capacity
 *       {4, what is there}                                                        not a lock
 */
export const CLAIM_LUA = `
local function claim(owner, units, all, ttl, wait)
  local lease = held(owner)
  if lease then
    rearm(owner, lease)
    prune(owner)
    drain(owner)
    return { 0, lease.epoch, lease.ttl, isWanted(lease.channel) and 1 or 0 }
  end
  local queued = prune(owner)
  capacity = capacity or all
  if capacity ~= all then
    local other = capacity
    drain(owner)
    return { 3, other }
  end
  local before = epochNow()
  if queued then
    -- A server out of memory takes a heartbeat after this, and keeps the place.
    extend(order, queued.ttl)
    write(owner, waiterRecord(queued.units, queued.ttl), nowMs + queued.ttl + 1)
    keepFor(queued.ttl)
  end
  -- A newcomer that fits is granted without a way through the queue.
  if drain(owner, not queued and channel or nil) and not queued and fits(units) then
    grant(owner, units, ttl, channel)
  end
  lease = held(owner)
  if lease then return { 0, lease.epoch, lease.ttl, isWanted(channel) and 1 or 0 } end

  local name = tellHolders(before)
  if not wait then
    if queued then
      -- It may have stood at the head, from an earlier claim that did wait.
      remove(owner)
      drain(owner)
    end
    return { 2, name }
  end
  local ahead = queued and call('ZRANK', order, 'q' .. owner) or enqueue(owner, units, ttl)
  local foreign = value and value ~= SHARED and not holder
  local heardHere = isListening(channel)
  return { 1, endsInMs(ahead), ahead, name, epochNow(), foreign and 1 or 0, heardHere and 1 or 0 }
end
`;
