import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { embeddedDeadLetters, embeddedPublisher, embeddedSource } from 'leasehold/embedded';
import { defineSourceFixture, type SourceFixture, type SourceWorld } from 'leasehold/testing';

interface EmbeddedWorld extends SourceWorld {
  readonly path: string;
}

export const fixture: SourceFixture = defineSourceFixture<EmbeddedWorld>({
  name: 'embedded',
  async makeWorld() {
    const path = await mkdtemp(join(tmpdir(), 'leasehold-queue-'));
    const options = { path, queue: 'case' };
    return {
      path,
      source: (more = {}) => embeddedSource({ ...options, ...more }),
      publisher: () => embeddedPublisher(options),
      deadLetters: () => embeddedDeadLetters(options),
      close: () => rm(path, { recursive: true }),
    };
  },
  hooks: {
    cut: { notApplicable: 'a folder has no connections' },
    restart: { notApplicable: 'a folder has no engine that could end alone' },
    processes: ({ path }) => ({
      module: 'leasehold/embedded',
      factory: 'embeddedSource',
      options: { path, queue: 'case' },
    }),
  },
});
