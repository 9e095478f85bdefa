import { outboxCases, stateCases } from 'leasehold/testing';
import { describe } from 'vitest';
import {
  memoryOutboxFixture,
  memorySourceFixture,
  memoryStateFixture,
} from './fixtures/memory-engines.ts';
import { registerEngineSuite } from './register-engines.ts';
import { registerSourceSuite } from './sources/register.ts';

describe('states in memory', () =>
  registerEngineSuite(memoryStateFixture, stateCases, { but: [] }));
describe('outboxes in memory', () =>
  registerEngineSuite(memoryOutboxFixture, outboxCases, { but: [] }));
describe('the source in memory', () => registerSourceSuite(memorySourceFixture, false));
