import { MemoryQueue, memorySource } from 'leasehold/memory';
import { defineSourceFixture, type SourceFixture, type SourceWorld } from 'leasehold/testing';

interface MemoryWorld extends SourceWorld {
  readonly queue: MemoryQueue;
}

export const fixture: SourceFixture = defineSourceFixture<MemoryWorld>({
  name: 'memory',
  async makeWorld() {
    const queue = new MemoryQueue();
    return {
      queue,
      source: (options) => memorySource(queue, options),
      publisher: () => queue,
      deadLetters: () => queue.deadLetters(),
      close: async () => {},
    };
  },
  hooks: {
    cut: async ({ queue }) => queue.cut(),
    restart: { notApplicable: 'a memory queue is gone with its process' },
    processes: { notApplicable: 'a memory queue lives inside one process' },
  },
});
