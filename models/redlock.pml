/*
 * One lock on three independent masters: attempts with proposed epochs, votes, deadlines, renewals with fill-in, releases,
 * a node that loses its data, and a fenced register.
 *
 * Messages. A message that was sent may be executed at any time, also when its sender has given up, and more than once;
 * one that is lost is one that is never executed. Refusals change nothing, and so they are no steps. An attempt is won at
 * some time after a majority has accepted it; replies that are late or lost are wins that are late or missing. When an
 * attempt is over, its end may reach each node at any time, or never.
 *
 * Time. Nothing counts seconds. A lease ends on a node at some time after the ttl has passed since its claim, or a renewal
 * that reached the node, was *sent*: that moment is the client's own deadline, which `passed` counts. So a node may end it
 * as late as it likes, and clocks may disagree by any amount in that direction. A node that has lost its data abstains
 * until everything that was sent before it did has passed its deadline.
 *
 * Attempts are alike, and so are nodes: attempts begin in their order, and node 0 is the one that crashes. Attempt 3 is the
 * second one of client 0. With as many epochs as attempts, proposals may come in every order, and be equal.
 *
 * Invariants (README.md says which broken variants the tests run):
 *
 *   EXCLUSION           at most one client believes to hold the lock
 *   EPOCHS_INCREASE     every grant has a higher epoch than all grants before it
 *   NO_LOST_UPDATE      a write that the register accepts is based on the value that stands there (only with REGISTER,
 *                       where holders stall and a node may end a lease at any time, as when its clock is set forward)
 */
#ifndef ATTEMPTS
#define ATTEMPTS 3
#endif
#ifndef MAX_EPOCH
#define MAX_EPOCH ATTEMPTS
#endif
#ifndef RENEWALS
#define RENEWALS 0                      /* in a run */
#endif
#ifndef CRASHES
#define CRASHES 0                       /* in a run */
#endif
#define CLIENTS 3
#define NODES 3

#ifdef MINORITY
#define QUORUM 1
#else
#define QUORUM 2
#endif
#ifdef NO_EPOCH_CHECK
#define IS_HIGHER(a, n) true
#else
#define IS_HIGHER(a, n) (epoch[a] > highest[n])
#endif
#ifdef USED_UP
#define IS_OVER_AFTER(a, deadlines) (HOLDS(a) && deadlines > confirmed[a])
#else
#define IS_OVER_AFTER(a, deadlines) (deadlines > confirmed[a])
#endif
#ifdef MIXED_ATTEMPTS
#define ACCEPTED(a) (accepted[a] | (a >= CLIENTS -> accepted[a - CLIENTS] : 0))
#else
#define ACCEPTED(a) accepted[a]
#endif
#ifdef END_BY_OWNER
#define IS_ENDED_BY(a, n) (owner[n] > 0 && (owner[n] - 1) % CLIENTS == a % CLIENTS)
#else
#define IS_ENDED_BY(a, n) (owner[n] == a + 1)
#endif
#ifdef FILL_LOWERS
#define RAISED(a, n) epoch[a]
#else
#define RAISED(a, n) (epoch[a] > highest[n] -> epoch[a] : highest[n])
#endif
#ifdef NO_ABSTENTION
#define HAS_ABSTAINED true
#else
#define HAS_ABSTAINED (IS_PAST(0) && IS_PAST(1) && IS_PAST(2) && IS_PAST(ATTEMPTS - 1))
#endif
#define IS_PAST(a) (passed[a] >= awaited[a])
#ifdef READ_EARLY
#define MAY_READ true
#else
#define MAY_READ HAS_ABSTAINED
#endif

#define BIT(n) (1 << (n))
#define HAS(mask, n) (((mask) >> (n)) & 1)
#define IS_MAJORITY(mask) (HAS(mask, 0) + HAS(mask, 1) + HAS(mask, 2) >= QUORUM)
#define VOTES(n) (n > 0 || !forgot)
#define MAX(x, y) (x > y -> x : y)

#define IDLE 0
#define CLAIMING 1
#define HELD 2
#define OVER 3

/* ---- the nodes ---- */
byte owner[NODES];                      /* an attempt and 1, or 0 */
byte counted[NODES];                    /* the renewal that its lease counts from; 0 is the claim */
byte highest[NODES];
bool forgot;                            /* node 0 has lost its data */
byte asked, floor, crashes;             /* the nodes that have told it their epochs, and the highest of those */
byte awaited[ATTEMPTS];                 /* deadlines that must pass before it votes again */

/* ---- the attempts: what their clients know ---- */
byte phase[ATTEMPTS], epoch[ATTEMPTS];
byte accepted[ATTEMPTS];                /* the nodes that have accepted it */
byte sent[ATTEMPTS];                    /* renewals */
byte renewed[ATTEMPTS];                 /* the nodes that have done the last of them */
byte confirmed[ATTEMPTS];               /* the one that the lease is valid by; 0 is the claim. Above, fills are sent */
byte passed[ATTEMPTS];                  /* deadlines, of the claim and of each renewal */

/* ---- the register ---- */
byte fence, version, readVersion[ATTEMPTS];
bool reads[ATTEMPTS];

byte begun, renewals, lastGranted;
hidden byte i;

#define ACCEPT(a, n, epochThere) highest[n] = epochThere; owner[n] = a + 1
/* The client is done with it: nothing of it matters but what is still under way, and nodes may end it at any time. */
inline finish(a) {
  phase[a] = OVER; renewed[a] = 0; reads[a] = false; readVersion[a] = 0;
#ifndef MIXED_ATTEMPTS
  accepted[a] = 0;
#endif
  sent[a] = 0; passed[a] = 0; awaited[a] = 0; confirmed[a] = (confirmed[a] > 0 -> 1 : 0);
  if :: owner[0] == a + 1 -> counted[0] = 0 :: else fi;
  if :: owner[1] == a + 1 -> counted[1] = 0 :: else fi;
  if :: owner[2] == a + 1 -> counted[2] = 0 :: else fi
}

inline grant(a) {
#ifndef REGISTER
  assert(epoch[a] > lastGranted);       /* EPOCHS_INCREASE */
#endif
  lastGranted = MAX(epoch[a], lastGranted);
  phase[a] = HELD; accepted[a] = 0
}

#define PROPOSED(a) phase[a] != IDLE
#define HOLDS(a) (phase[a] == HELD)

/* What a client does. A lease ends for it at its deadline; with the register, a holder that has read is stalled then, and
 * goes on as if it still held the lock. */
#define CLIENT(a) \
  :: d_step { phase[a] == CLAIMING && IS_MAJORITY(ACCEPTED(a)) -> grant(a) } \
  :: d_step { phase[a] == CLAIMING || HOLDS(a) -> finish(a) } \
  :: d_step { (phase[a] == CLAIMING || HOLDS(a)) && passed[a] <= sent[a] -> \
       if \
       :: IS_OVER_AFTER(a, passed[a] + 1) && !reads[a] -> finish(a) \
       :: else -> passed[a]++ \
       fi } \
  :: d_step { HOLDS(a) && renewals < RENEWALS -> renewals++; sent[a]++; renewed[a] = 0 } \
  :: d_step { HOLDS(a) && confirmed[a] < sent[a] && IS_MAJORITY(renewed[a]) -> \
       confirmed[a] = sent[a]; renewed[a] = 0 }

/* What a node does with a message of an attempt: claim, renewal, fill, end; and the end of a lease by its expiry. A claim
 * takes the place of an older attempt of the same client. */
#define NODE(a, n) \
  :: d_step { PROPOSED(a) && VOTES(n) && IS_HIGHER(a, n) && \
       (owner[n] == 0 || owner[n] <= a && (owner[n] - 1) % CLIENTS == a % CLIENTS) -> \
       ACCEPT(a, n, MAX(epoch[a], highest[n])); counted[n] = 0; \
       if :: phase[a] == CLAIMING -> accepted[a] = accepted[a] | BIT(n) :: else fi } \
  :: d_step { owner[n] == a + 1 && counted[n] < sent[a] -> \
       counted[n] = sent[a]; renewed[a] = renewed[a] | BIT(n) } \
  :: d_step { confirmed[a] > 0 && owner[n] == 0 && VOTES(n) -> \
       ACCEPT(a, n, RAISED(a, n)); counted[n] = (HOLDS(a) -> confirmed[a] : 0) } \
  :: d_step { phase[a] == OVER && IS_ENDED_BY(a, n) || owner[n] == a + 1 && passed[a] > counted[n] -> \
       owner[n] = 0; counted[n] = 0 }

/* A node's clock is set forward. */
#define JUMP(n) \
  :: d_step { owner[n] > 0 -> owner[n] = 0; counted[n] = 0 }

#define READ(n) \
  :: d_step { forgot && MAY_READ && !HAS(asked, n) -> \
       asked = asked | BIT(n); floor = MAX(floor, highest[n]) }

#ifdef WRITE_FENCE_ONLY
#define RAISES(a) true
#else
#define RAISES(a) (epoch[a] >= fence)
#endif

/* A fenced read, then a fenced write. */
#define REGISTER_OF(a) \
  :: d_step { HOLDS(a) && !reads[a] && passed[a] <= confirmed[a] && RAISES(a) -> \
       RAISE(a); readVersion[a] = version; reads[a] = true } \
  :: d_step { HOLDS(a) && reads[a] -> \
       if \
       :: epoch[a] >= fence -> \
          assert(readVersion[a] == version); /* NO_LOST_UPDATE */ \
          fence = epoch[a]; version++ \
       :: else \
       fi; \
       finish(a) }
#ifdef WRITE_FENCE_ONLY
#define RAISE(a) skip
#else
#define RAISE(a) fence = epoch[a]
#endif

/* One attempt, and what nodes do with its messages. */
active [ATTEMPTS] proctype attempt() {
end:
  do
  :: atomic { phase[_pid] == IDLE && begun == _pid && (_pid < CLIENTS || phase[_pid % CLIENTS] == OVER) ->
       epoch[_pid] = 1; do :: epoch[_pid] < MAX_EPOCH -> epoch[_pid]++ :: break od;
       phase[_pid] = CLAIMING; begun++ }
  CLIENT(_pid)
  NODE(_pid, 0)
  NODE(_pid, 1)
  NODE(_pid, 2)
#ifdef REGISTER
  REGISTER_OF(_pid)
#endif
  od
}

active proctype world() {
end:
  do
  :: d_step { crashes < CRASHES && !forgot ->
       crashes++; forgot = true; owner[0] = 0; counted[0] = 0; highest[0] = 0;
       i = 0;
       do :: i < begun -> awaited[i] = (phase[i] == OVER -> 0 : sent[i] + 1); i++ :: else -> break od;
       i = 0 }
  READ(1)
  READ(2)
  :: d_step { forgot && asked == 6 && HAS_ABSTAINED ->
       forgot = false; asked = 0;
#ifndef NO_FLOOR
       highest[0] = floor;
#endif
       floor = 0; awaited[0] = 0; awaited[1] = 0; awaited[2] = 0; awaited[ATTEMPTS - 1] = 0 }
#ifdef REGISTER
  JUMP(0)
  JUMP(1)
  JUMP(2)
#else
  :: HOLDS(0) + HOLDS(1) + HOLDS(2) + (ATTEMPTS > 3 && HOLDS(ATTEMPTS - 1)) > 1 -> assert(false)  /* EXCLUSION */
#endif
  od
}
