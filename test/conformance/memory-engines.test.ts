import { outboxCases, stateCases } from 'leasehold/testing';
import { describe } from 'vitest';
import { memoryOutboxFixture, memoryStateFixture } from './fixtures/memory-engines.ts';
import { registerEngineSuite } from './register-engines.ts';

describe('states in memory', () =>
  registerEngineSuite(memoryStateFixture, stateCases, { but: [] }));
describe('outboxes in memory', () =>
  registerEngineSuite(memoryOutboxFixture, outboxCases, { but: [] }));
