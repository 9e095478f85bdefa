/*
 * Hand-over of one lock on Redis: claims, grants by message, deadlines, renewals, releases, and a fenced register.
 *
 * The server is one atomic place: an owner with an expiry, an epoch, and a queue whose entries carry their own ttl. Claims,
 * renewals and releases travel for any time; replies and messages may be lost; a claim that the client has given up
 * may still be executed later. Time is discrete: a tick advances every clock by one, so clients and the server agree on
 * its rate, and on nothing else.
 *
 * Invariants (each fails in at least one of the broken variants, see the table in README.md):
 *
 *   HOLDER_IS_OWNER     whoever believes to hold the lock is its owner on the server, under the epoch that it was given,
 *                       and the server will keep it at least as long as the client believes
 *   EPOCHS_INCREASE     a client never gets an epoch that is not above every one that was given before
 *   NO_LOST_UPDATE      a write that the register accepts is based on the value that stands there (only with REGISTER)
 *
 * Variants: COUNT_FROM_IN_FLIGHT, IGNORE_EPOCH, RELEASER_TTL, REUSE_OWNER, NO_REARM, SHORTEN, PUBLISH_THEN_CHOOSE, and
 * with REGISTER: WRITE_FENCE_ONLY.
 */
#ifndef CLIENTS
#define CLIENTS 2
#endif
#ifndef MAX_EPOCH
#define MAX_EPOCH 5                     /* grants in a run */
#endif
#ifndef MAX_OWNER
#define MAX_OWNER 3                     /* owner values of one client in a run; owner 0 is none */
#endif
/* Each of these multiplies the states: a run takes in some of them. */
#ifndef LATE
#define LATE 0                          /* claims that were given up are executed later */
#endif
#ifndef RENEW
#define RENEW 0
#endif
#ifndef GIVE_UP
#define GIVE_UP 0                       /* waiters leave, and nobody tells the server */
#endif
#define NOBODY 255
#define OLD 4                           /* ages stop here; above every ttl */

/* Two clients with different ttls: an expiry that is taken from the wrong one shows. */
#define TTL(c) ((c) == 0 -> 1 : 3)

#ifdef IGNORE_EPOCH
#define IS_NEWER(c) true
#else
#define IS_NEWER(c) (messageEpoch[c] > baseEpoch[c])
#endif

mtype = { idle, waiting, held };        /* what a client believes */
mtype = { none, sent, answered };       /* where a request is */

/* ---- the server ---- */
byte ownerClient = NOBODY, owner, left, lastEpoch, heldEpoch;
byte queueClient[CLIENTS], queueOwner[CLIENTS], queued;

/* ---- the clients ---- */
mtype belief[CLIENTS] = idle;
byte mine[CLIENTS];                     /* the owner value of the current claim */
byte believedLeft[CLIENTS];             /* how long it may still trust the lease */
byte token[CLIENTS];
byte baseAge[CLIENTS], baseEpoch[CLIENTS];  /* the last claim that was answered with "wait": its age and its epoch */

/* ---- the network: at most one of each for a client ---- */
mtype claimAt[CLIENTS] = none;
byte claimOwner[CLIENTS], claimAge[CLIENTS], claimEpoch[CLIENTS];
bool claimGranted[CLIENTS];
byte lateClaim[CLIENTS];                /* a claim that the client has given up, and that still travels */
byte messageOwner[CLIENTS], messageEpoch[CLIENTS];
mtype renewAt[CLIENTS] = none;
byte renewOwner[CLIENTS], renewAge[CLIENTS];
bool renewHeld[CLIENTS];
byte releaseOwner[CLIENTS];

/* ---- the fenced register ---- */
byte fence, version, readVersion[CLIENTS];
bool hasRead[CLIENTS];

byte i, next;
bool found;

inline enqueue(c, o) {
  found = false; i = 0;
  do
  :: i < queued && queueClient[i] == c -> queueOwner[i] = o; found = true; i++
  :: i < queued && queueClient[i] != c -> i++
  :: i >= queued -> break
  od;
  if
  :: !found -> queueClient[queued] = c; queueOwner[queued] = o; queued++
  :: else
  fi
}

inline dequeueHead() {
  i = 1;
  do
  :: i < queued -> queueClient[i - 1] = queueClient[i]; queueOwner[i - 1] = queueOwner[i]; i++
  :: else -> break
  od;
  queued--; queueClient[queued] = 0; queueOwner[queued] = 0
}

inline makeOwner(c, o) {
  ownerClient = c; owner = o; lastEpoch++; heldEpoch = lastEpoch; left = TTL(c)
}

inline free() { ownerClient = NOBODY; owner = 0; left = 0; heldEpoch = 0 }

/* A second message for the same client is lost: the worst that can happen to it. */
inline publish(c, o, e) {
  if
  :: messageOwner[c] == 0 -> messageOwner[c] = o; messageEpoch[c] = e
  :: else
  fi
}

/* What every script ends in. `releaser` made the step. */
inline drain(releaser) {
  do
  :: ownerClient == NOBODY && queued > 0 && lastEpoch < MAX_EPOCH ->
     next = queueClient[0];
#ifdef PUBLISH_THEN_CHOOSE
     if
     :: publish(next, queueOwner[0], lastEpoch + 1); dequeueHead(); goto chosen  /* "nobody heard it": delivered anyway */
     :: skip
     fi;
#endif
     makeOwner(next, queueOwner[0]);
#ifdef RELEASER_TTL
     left = TTL(releaser);
#endif
     publish(next, owner, heldEpoch);
     dequeueHead();
#ifdef PUBLISH_THEN_CHOOSE
chosen: skip
#endif
  :: else -> break
  od
}

inline executeClaim(c, o, granted, e) {
  if
  :: ownerClient == c && owner == o ->
#ifndef NO_REARM
     left = TTL(c);
#endif
     granted = true; e = heldEpoch
  :: else ->
     enqueue(c, o);
     if
     :: ownerClient == NOBODY && queueClient[0] == c && lastEpoch < MAX_EPOCH ->
        dequeueHead(); makeOwner(c, o); granted = true; e = heldEpoch
     :: else -> drain(c); granted = false; e = lastEpoch
     fi
  fi
}

inline forgetLease(c) {
  belief[c] = idle; believedLeft[c] = 0; token[c] = 0; hasRead[c] = false; readVersion[c] = 0;
  baseAge[c] = OLD; baseEpoch[c] = 0
}

inline holds(c, e, remaining) {
  belief[c] = held; token[c] = e; believedLeft[c] = remaining; hasRead[c] = false;
  baseAge[c] = OLD; baseEpoch[c] = 0
}

inline extend(c, remaining) {
  if
  :: remaining > believedLeft[c] -> believedLeft[c] = remaining
  :: else
  fi
}

inline onClaimAnswer(c) {
  if
  :: claimOwner[c] != mine[c] || belief[c] == idle -> skip
  :: else ->
     if
     :: claimGranted[c] && belief[c] == waiting && claimAge[c] < TTL(c) ->
        holds(c, claimEpoch[c], TTL(c) - claimAge[c])
     :: claimGranted[c] && belief[c] == held && token[c] == claimEpoch[c] && claimAge[c] < TTL(c) ->
        extend(c, TTL(c) - claimAge[c])
     :: !claimGranted[c] && belief[c] == waiting ->
        baseAge[c] = claimAge[c]; baseEpoch[c] = claimEpoch[c]
     :: !claimGranted[c] && belief[c] == held && claimEpoch[c] >= token[c] -> forgetLease(c)
     :: else -> skip
     fi
  fi;
  claimAt[c] = none; claimOwner[c] = 0; claimAge[c] = 0; claimGranted[c] = false; claimEpoch[c] = 0
}

inline onMessage(c) {
  if
  :: belief[c] == waiting && messageOwner[c] == mine[c] && IS_NEWER(c) ->
     next = baseAge[c];
#ifdef COUNT_FROM_IN_FLIGHT
     if
     :: claimAt[c] != none && claimOwner[c] == mine[c] -> next = claimAge[c]
     :: else
     fi;
#endif
     if
     :: next < TTL(c) -> holds(c, messageEpoch[c], TTL(c) - next)
     :: else
     fi
  :: else
  fi;
  messageOwner[c] = 0; messageEpoch[c] = 0
}

inline tick() {
  i = 0;
  do
  :: i < CLIENTS ->
     if
     :: believedLeft[i] > 0 ->
        believedLeft[i]--;
        if
        /* With the register, a holder that has read is stalled: it goes on as if it still held the lock. */
        :: believedLeft[i] == 0 && !hasRead[i] -> forgetLease(i)
        :: else
        fi
     :: else
     fi;
     if :: belief[i] == waiting && baseAge[i] < OLD -> baseAge[i]++ :: else fi;
     if :: claimAt[i] != none && claimAge[i] < OLD -> claimAge[i]++ :: else fi;
     if :: renewAt[i] != none && renewAge[i] < OLD -> renewAge[i]++ :: else fi;
     i++
  :: else -> break
  od;
  if
  :: left > 0 -> left--; if :: left == 0 -> free() :: else fi
  :: else
  fi
}

active proctype world() {
  byte c;
  do
  :: atomic {
     c = 0;
     do :: c < CLIENTS - 1 -> c++ :: break od;
     if
     /* -- claims -- */
     :: belief[c] == idle && claimAt[c] == none && mine[c] < MAX_OWNER ->
#ifdef REUSE_OWNER
        if :: mine[c] == 0 -> mine[c] = 1 :: else fi;
#else
        mine[c]++;
#endif
        belief[c] = waiting; baseAge[c] = 0; baseEpoch[c] = 0;
        claimAt[c] = sent; claimOwner[c] = mine[c]; claimAge[c] = 0
     :: belief[c] == waiting && claimAt[c] == none ->
        claimAt[c] = sent; claimOwner[c] = mine[c]; claimAge[c] = 0
     :: claimAt[c] == sent ->
        executeClaim(c, claimOwner[c], claimGranted[c], claimEpoch[c]); claimAt[c] = answered
     :: LATE && claimAt[c] == sent && lateClaim[c] == 0 ->
        lateClaim[c] = claimOwner[c]; claimAt[c] = none; claimOwner[c] = 0; claimAge[c] = 0
     :: lateClaim[c] != 0 -> executeClaim(c, lateClaim[c], found, next); lateClaim[c] = 0
     :: claimAt[c] == answered -> onClaimAnswer(c)
     :: claimAt[c] == answered ->
        claimAt[c] = none; claimOwner[c] = 0; claimAge[c] = 0; claimGranted[c] = false; claimEpoch[c] = 0
     /* -- grants by message -- */
     :: messageOwner[c] != 0 -> onMessage(c)
     :: messageOwner[c] != 0 -> messageOwner[c] = 0; messageEpoch[c] = 0
     /* -- renewals -- */
     :: RENEW && belief[c] == held && renewAt[c] == none -> renewAt[c] = sent; renewOwner[c] = mine[c]; renewAge[c] = 0
     :: renewAt[c] == sent ->
        renewHeld[c] = (ownerClient == c && owner == renewOwner[c]); renewAt[c] = answered;
        if
        :: renewHeld[c] ->
#ifdef SHORTEN
           if :: left = TTL(c) :: left = 1 fi
#else
           left = TTL(c)
#endif
        :: else
        fi
     :: renewAt[c] == answered ->
        if
        :: belief[c] == held && renewOwner[c] == mine[c] && renewHeld[c] && renewAge[c] < TTL(c) ->
#ifndef SHORTEN
           extend(c, TTL(c) - renewAge[c])
#else
           skip
#endif
        :: belief[c] == held && renewOwner[c] == mine[c] && !renewHeld[c] -> forgetLease(c)
        :: else
        fi;
        renewAt[c] = none; renewOwner[c] = 0; renewAge[c] = 0; renewHeld[c] = false
     :: renewAt[c] == answered -> renewAt[c] = none; renewOwner[c] = 0; renewAge[c] = 0; renewHeld[c] = false
     /* -- releases: sent and forgotten, executed at any time or never -- */
     :: belief[c] == held && releaseOwner[c] == 0 -> releaseOwner[c] = mine[c]; forgetLease(c)
     :: releaseOwner[c] != 0 ->
        if
        :: ownerClient == c && owner == releaseOwner[c] -> free(); drain(c)
        :: else
        fi;
        releaseOwner[c] = 0
     :: releaseOwner[c] != 0 -> releaseOwner[c] = 0
     /* -- a waiter gives up, and its withdrawal is lost -- */
     :: GIVE_UP && belief[c] == waiting -> forgetLease(c)
#ifdef REGISTER
     /* -- a fenced read, then a fenced write -- */
     :: belief[c] == held && !hasRead[c] && believedLeft[c] > 0 ->
#ifdef WRITE_FENCE_ONLY
        readVersion[c] = version; hasRead[c] = true
#else
        if
        :: token[c] >= fence -> fence = token[c]; readVersion[c] = version; hasRead[c] = true
        :: else
        fi
#endif
     :: belief[c] == held && hasRead[c] && version < 3 ->
        if
        :: token[c] >= fence ->
           assert(readVersion[c] == version);          /* NO_LOST_UPDATE */
           fence = token[c]; version++
        :: else
        fi;
        forgetLease(c)
#endif
     :: tick()
     fi;

#ifndef REGISTER
     i = 0;
     do
     :: i < CLIENTS ->
        assert(belief[i] != held || (ownerClient == i && owner == mine[i]));    /* HOLDER_IS_OWNER */
        assert(belief[i] != held || believedLeft[i] <= left);                   /* HOLDER_IS_OWNER, for as long */
        assert(belief[i] != held || token[i] == lastEpoch);                     /* EPOCHS_INCREASE */
        i++
     :: else -> break
     od;
#endif
     i = 0; next = 0; found = false; c = 0
     }
  od
}
