import type { WorkloadName } from '../orders.ts';
import { queue } from './queue.ts';
import { register } from './register.ts';
import type { Workload } from './workload.ts';

export const WORKLOADS_BY_NAME: Readonly<Record<WorkloadName, Workload>> = { register, queue };
