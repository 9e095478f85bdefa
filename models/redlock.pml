/*
 * One lock on three independent masters: claims with proposed epochs, votes, renewals with fill-in, releases, nodes that
 * lose their data, and a fenced register.
 *
 * The request and the reply of a claim travel to each node for any time, and each may be lost, or come when the attempt is
 * over. A release or a renewal reaches any set of nodes. Time is discrete: a tick advances every clock by one.
 *
 * Clients are alike, and so are nodes: clients begin in their order, and node 0 is the one that crashes.
 *
 * Invariants (README.md says which broken variants the tests run):
 *
 *   EXCLUSION           at most one client believes to hold the lock
 *   EPOCHS_INCREASE     every grant has a higher epoch than all grants before it
 *   NO_LOST_UPDATE      a write that the register accepts is based on the value that stands there (only with REGISTER,
 *                       where holders stall and a node may end a lease at any time, as when its clock is set)
 *
 * Variants: NO_EPOCH_CHECK, MIXED_ATTEMPTS, USED_UP, MINORITY, RENEW_ANEW, NO_ABSTENTION, NO_FLOOR, READ_EARLY, and with
 * REGISTER: WRITE_FENCE_ONLY.
 */
#ifndef CLIENTS
#define CLIENTS 3
#endif
#ifndef MAX_EPOCH
#define MAX_EPOCH 3
#endif
#ifndef MAX_ATTEMPTS
#define MAX_ATTEMPTS 1                  /* of one client in a run */
#endif
#ifndef TTL
#define TTL 1
#endif
/* Each of these multiplies the states: a run takes in some of them. */
#ifndef RENEWALS
#define RENEWALS 0                      /* in a run */
#endif
#ifndef CRASHES
#define CRASHES 0                       /* in a run */
#endif
#define NODES 3
#ifdef MINORITY
#define QUORUM 1
#else
#define QUORUM 2
#endif
#ifdef NO_EPOCH_CHECK
#define IS_HIGHER(e, n) true
#else
#define IS_HIGHER(e, n) ((e) > highest[n])
#endif
#ifdef USED_UP
#define IN_TIME(c) true
#define REST(c) TTL
#else
#define IN_TIME(c) (age[c] < TTL)
#define REST(c) (TTL - age[c])
#endif
#ifdef READ_EARLY
#define MAY_READ true
#else
#define MAY_READ (abstains == 0)
#endif
#ifdef NO_ABSTENTION
#define ABSTENTION 0
#else
#define ABSTENTION TTL
#endif
#define BIT(n) (1 << (n))
#define HAS(mask, n) (((mask) >> (n)) & 1)
#define VOTES(mask) (HAS(mask, 0) + HAS(mask, 1) + HAS(mask, 2))

mtype = { idle, claiming, held };       /* what a client believes */

/* ---- the nodes; owner 0 is nobody ---- */
byte owner[NODES], ownEpoch[NODES], left[NODES], highest[NODES];
bool forgot, hasRead;                   /* node 0 has lost its data; it has the epochs of the others */
byte abstains, floor, crashes;

/* ---- the clients ---- */
mtype belief[CLIENTS] = idle;
byte epoch[CLIENTS], attempts[CLIENTS];
byte age[CLIENTS];                      /* since before the sending of the attempt */
byte accepted[CLIENTS];                 /* the nodes that are known to have accepted it */
byte believedLeft[CLIENTS];
byte renewals;

/* ---- the network: claims of the last attempt, and acceptances of it, on their way ---- */
byte sent[CLIENTS], replied[CLIENTS];

/* ---- the register ---- */
byte fence, version, readVersion[CLIENTS];
bool reads[CLIENTS];

byte lastGranted;
hidden byte i, j, count;

inline free(n) { owner[n] = 0; ownEpoch[n] = 0; left[n] = 0 }

inline accept(c, n) {
  owner[n] = c + 1; ownEpoch[n] = epoch[c]; left[n] = TTL;
  highest[n] = (epoch[c] > highest[n] -> epoch[c] : highest[n])
}

inline forgetLease(c) {
  belief[c] = idle; believedLeft[c] = 0; accepted[c] = 0; age[c] = 0; reads[c] = false; readVersion[c] = 0
}

inline anyNodes() { if :: j = 0 :: j = 1 :: j = 2 :: j = 3 :: j = 4 :: j = 5 :: j = 6 :: j = 7 fi }

/* Sent to all, and lost on its way to any. */
inline release(c) {
  anyNodes();
  d_step {
    i = 0;
    do
    :: i < NODES ->
       if :: HAS(j, i) && owner[i] == c + 1 && ownEpoch[i] == epoch[c] -> free(i) :: else fi;
       i++
    :: else -> break
    od;
    i = 0
  }
}

/* Reaches any of the nodes. Those that have it still count; then those where it is free may have it too. */
inline renew(c) {
  anyNodes();
  d_step {
    renewals++; count = 0; i = 0;
    do
    :: i < NODES ->
       if
       :: HAS(j, i) && owner[i] == c + 1 && ownEpoch[i] == epoch[c] -> left[i] = TTL; count++
       :: HAS(j, i) && owner[i] == 0 && !(i == 0 && forgot) ->
#ifdef RENEW_ANEW
          accept(c, i); count++
#else
          skip
#endif
       :: else -> j = j & (7 - BIT(i))
       fi;
       i++
    :: else -> break
    od;
    if
    :: count >= QUORUM ->
       believedLeft[c] = TTL; i = 0;
       do
       :: i < NODES -> if :: HAS(j, i) && owner[i] == 0 -> accept(c, i) :: else fi; i++
       :: else -> break
       od
    :: else
    fi;
    i = 0
  }
}

inline tick() {
  d_step {
    i = 0;
    do
    :: i < CLIENTS ->
       if
       :: believedLeft[i] > 0 ->
          believedLeft[i]--;
          if
          /* With the register, a holder that has read is stalled: it goes on as if it still held the lock. */
          :: believedLeft[i] == 0 && !reads[i] -> forgetLease(i)
          :: else
          fi
       :: else
       fi;
       if :: belief[i] == claiming && age[i] < TTL -> age[i]++ :: else fi;
       i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < NODES ->
       if :: left[i] > 0 -> left[i]--; if :: left[i] == 0 -> free(i) :: else fi :: else fi;
       i++
    :: else -> break
    od;
    if :: abstains > 0 -> abstains-- :: else fi
  }
}

inline ofAnyNode() { if :: n = 0 :: n = 1 :: n = 2 fi }

active proctype world() {
  byte c, n;
  do
  :: atomic {
     if :: c = 0 :: c = 1
#if CLIENTS > 2
        :: c = 2
#endif
     fi;
     if
     /* -- claims -- */
     :: belief[c] == idle && attempts[c] < MAX_ATTEMPTS && epoch[c] < MAX_EPOCH && (c == 0 || attempts[c - 1] > 0) ->
        attempts[c]++; epoch[c]++;
        do :: epoch[c] < MAX_EPOCH -> epoch[c]++ :: break od;
        belief[c] = claiming; age[c] = 0; sent[c] = 7; replied[c] = 0
     :: sent[c] != 0 ->
        ofAnyNode();
        if
        :: HAS(sent[c], n) -> sent[c] = sent[c] & (7 - BIT(n));
           if
           :: !(n == 0 && forgot) && owner[n] == 0 && IS_HIGHER(epoch[c], n) ->
              accept(c, n);
              if :: replied[c] = replied[c] | BIT(n) :: skip fi   /* or the reply is lost */
           :: else                                                /* refused, or lost on the way there */
           fi
        :: else
        fi
     :: replied[c] != 0 ->
        ofAnyNode();
        if
        :: HAS(replied[c], n) ->
           replied[c] = replied[c] & (7 - BIT(n));
           if
           :: belief[c] == claiming -> accepted[c] = accepted[c] | BIT(n)
           /* It comes when the attempt is over, and is ended again. */
           :: belief[c] == idle && owner[n] == c + 1 && ownEpoch[n] == epoch[c] -> free(n)
           :: else
           fi
        :: else
        fi
     :: belief[c] == claiming && VOTES(accepted[c]) >= QUORUM && IN_TIME(c) ->
#ifndef REGISTER
        assert(epoch[c] > lastGranted);                /* EPOCHS_INCREASE */
#endif
        lastGranted = (epoch[c] > lastGranted -> epoch[c] : lastGranted);
        belief[c] = held; believedLeft[c] = REST(c); accepted[c] = 0; age[c] = 0
     :: belief[c] == claiming ->
        release(c);
#ifdef MIXED_ATTEMPTS
        belief[c] = idle
#else
        forgetLease(c)
#endif
     /* -- leases -- */
     :: belief[c] == held -> release(c); forgetLease(c)
     :: belief[c] == held && renewals < RENEWALS -> renew(c)
     /* -- nodes -- */
     :: c == 0 && crashes < CRASHES && !forgot ->
        crashes++; free(0); highest[0] = 0; forgot = true; abstains = ABSTENTION
     :: c == 0 && forgot && !hasRead && MAY_READ ->
        hasRead = true; floor = (highest[1] > highest[2] -> highest[1] : highest[2])
#ifdef NO_FLOOR
        ; floor = 0
#endif
     :: c == 0 && hasRead && abstains == 0 -> forgot = false; hasRead = false; highest[0] = floor; floor = 0
#ifdef REGISTER
     :: c == 0 -> ofAnyNode(); free(n)                 /* its clock is set forward */
     /* -- a fenced read, then a fenced write -- */
     :: belief[c] == held && !reads[c] && believedLeft[c] > 0 ->
#ifdef WRITE_FENCE_ONLY
        readVersion[c] = version; reads[c] = true
#else
        if
        :: epoch[c] >= fence -> fence = epoch[c]; readVersion[c] = version; reads[c] = true
        :: else
        fi
#endif
     :: belief[c] == held && reads[c] ->
        if
        :: epoch[c] >= fence ->
           assert(readVersion[c] == version);          /* NO_LOST_UPDATE */
           fence = epoch[c]; version++
        :: else
        fi;
        forgetLease(c)
#endif
     :: c == 0 -> tick()
     :: else
     fi;

#ifndef REGISTER
     assert((belief[0] == held) + (belief[1] == held)
#if CLIENTS > 2
       + (belief[2] == held)
#endif
       <= 1);                                          /* EXCLUSION */
#endif
     c = 0; n = 0
     }
  od
}
