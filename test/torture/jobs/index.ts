import type { WorkloadName } from '../orders.ts';
import type { Context, Job } from './job.ts';
import { ledgerJob } from './ledger.ts';
import { queue } from './queue.ts';
import { register } from './register.ts';
import { tasksJob } from './tasks.ts';

export const JOBS: Readonly<Record<WorkloadName, (context: Context) => Job>> = {
  register: (context) => tasksJob(context, register),
  queue: (context) => tasksJob(context, queue),
  ledger: ledgerJob,
};
