/**
 * Deterministic simulation: the whole core in virtual time, on a network, a server and clocks that fail as a seed decides.
 */
export { SimulatedClock, type SimulatedClockOptions } from './clock.ts';
export { makePlan, type Plan, type Profile } from './plan.ts';
export { SimulatedProcess, type SimulatedProcessOptions } from './process.ts';
export { SeededRandom } from './random.ts';
export { SimulatedServer, type SimulatedServerOptions } from './server.ts';
export { type SimulationOptions, type SimulationReport, simulate } from './simulate.ts';
export { FINE_WEATHER, SimulatedStore, type SimulatedStoreOptions, type Weather } from './store.ts';
export { Timeline } from './timeline.ts';
