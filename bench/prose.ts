/** What the report says besides its figures. */

/** In the order of the report. */
export const TITLES: Readonly<Record<string, string>> = {
  uncontended: 'A free key, one task',
  'uncontended-64': '64 free keys in one process',
  retained: 'The same key again, retained',
  'hot-key': 'One key that all want',
  'hand-over': 'From one process to another',
  drain: 'A hundred waiters',
  skewed: '10,000 keys, some wanted more than others',
  held: '100,000 leases at once',
  memory: 'Memory',
  redlock: 'Redlock on three masters',
  'redlock-hot-key': 'One key on three masters',
  story: 'Contributions from a queue',
  profile: 'Where the time of the hot paths goes',
  growth: 'How cost grows',
  'embedded-hot-key': 'One key on the embedded store',
  'zookeeper-uncontended': 'ZooKeeper, a free key',
  'zookeeper-hot-key': 'ZooKeeper, one key that all want',
};

export const INTRODUCTION = `# Benchmarks

Made by \`npm run bench -- all\`, which starts its own servers, and writes this page from what it measured. Workloads that were
not measured are left out: \`npm run bench -- WORKLOAD\` measures one, \`npm run bench -- report\` writes the page anew, and
\`npm run bench -- WORKLOAD --quick\` looks at one of them in seconds and keeps nothing. Nothing here was written by
hand but the explanations.

- All contenders do the same work on the same server, through the same version of the same client, in turns: one round of
  each, then the next. Each round has its own ratio to the *limit*, the same work without any lock; medians over the rounds
  are shown. Trust the ratios more than the figures.
- Peers are used as their own documentation says, with their defaults and with polling that was tuned by hand.
- The sum is looked at after every round. **A wrong sum voids the row.**
- *Longest* is the longest of all rounds, not a median. *Gave up* counts calls that a library ended with an error
  although nothing was wrong; the caller tried again at once.`;

export const WHAT_STANDS_IN_THE_WAY = `## What stands in the way of missed targets

- **One hot key.** A section is a GET and a SET, one after the other, whoever holds the key, and the limit does the same without a lock. So the
  comparison depends on the machine: on what it costs a lone client and its server to wake each other for every command, and on what a hand-over
  costs, of which there is one for every 33 sections. Longer tenancies have fewer of them, and the rows with other numbers of passes show what that costs in waits. With tenancies of
  33 sections, between two sections of one task at most 33 of the other process and some of its own process's are served: that is counted. By the clock, the longest wait of a
  run has the longest stall of the machine in it besides; the column of the longest section has such stalls of a single GET and SET, in the row without a lock as well.
- **A hand-over.** While processes and server are at work, it is one way of a message, a script, and the code of both processes; after a sleep, a second process has to be woken besides. In
  both cases a bare PUBLISH from one process to the other, without any lock, is the floor, and where that alone takes more than two round trips of PING, so does every lock. Its section says where the time goes.
- **Redlock, a free key.** There are two limits. The stricter one is what the published algorithm sends: a \`SET NX PX\`, and a script that compares and
  deletes. The other one is what a claim and a drop of this package send, without a manager around them. What is between the two is what
  a claim does more inside the server: it looks whether the node has lost its data, and whether its epoch is the highest, and it keeps that. No work of the client can win that back. What is between the second row and the third is the manager and the counting of votes. Peers
  that are ahead here send the bare commands: they have no epochs, and a node that has lost its data grants again.
- **ZooKeeper, a free key.** Server and packets are those of the bare create and delete; what is above is the work of the client's process
  between them: about as much for the core as for the two requests.
- **Contributions of many accounts.** The limit sends one INCRBY for a message. An exactly-once effect takes a look at the state and a commit that looks for the lock, the version and the
  ids, and writes all of it: for all messages of an account together. With one account that is twice for many messages. With many accounts there is about one message of each at a time, so that
  it is twice for a message, where a bare command is one. They travel in runs of many, and still take more of the server than the command, and more of the client.
  With two processes on one queue accounts change hands all the time besides, and what one of them has looked at the other has changed. Partitions end that: an account stays where it is, its state in memory, and what is left is the
  commit; the first moments, in which one process has all of them, count. Where the time of the consumer's process goes is in the section on the hot paths.
  Broker, Redis and both processes share the cores, so these ratios depend on the machine as well: two cores of an Intel Xeon, on 2026-11-30, gave 0.58 and 0.66 of the limit over
  100 and 10,000 accounts, and 1.03 and 0.83 with states in memory, by the same command.`;

export const BEYOND_ONE_MACHINE = `## Beyond one machine, on paper

Nothing in this section was measured; it follows from the figures above.

- **One lock lives in one hash slot**, so a Redis Cluster of *n* masters carries *n* times the operations of one, as long as keys
  spread over the slots. A master is one thread: it saturates at 1,000,000 µs ÷ *server µs each* operations a second. The clients
  saturate at as many processes times 1,000,000 µs ÷ *client µs each*.
- **A run of operations is for one slot.** Spread over *s* slots, the calls of one turn of the event loop are up to *s* runs, and
  the server pays more for each: the saving of long runs goes with the share of keys that one slot has.
- **One hot key does not scale with machines, whoever holds it**: its operations are one after the other. What counts is the
  hold and the hand-over. Across machines a hand-over costs one way to the server and one to the next process; with a network
  of 0.5 ms there and back, about 1 ms. Local passes cost no way at all, so the key makes *s* ÷ (*s* × hold + hand-over) operations a
  second, where *s* is how many tasks a tenancy serves: at most 33 by default while others wait.
- **Listening** costs one connection for each process and master. Messages go to one process each, so a release costs the same
  with ten processes as with a thousand.
- **Renewal** is one operation for each held lease every third of the ttl: 100,000 leases of 10 s are about 30,000 renewals a
  second, of which the section on leases held at once says what they cost both sides. A longer ttl costs less in proportion.`;
