/**
 * Fails when the registry knows an advisory of severity high or critical for anything that `package-lock.json` installs.
 * Lower ones are shown. A registry that cannot be asked is said, and fails nothing: it tells nothing of the packages.
 */
import { spawnSync } from 'node:child_process';

const FAILING = ['high', 'critical'];
/** How long to wait for the registry before it counts as not there. */
const PATIENCE = ['--fetch-retries=1', '--fetch-timeout=30000'];

const { stdout, stderr } = spawnSync('npm', ['audit', '--json', ...PATIENCE], {
  encoding: 'utf8',
  maxBuffer: 64 * 1024 * 1024,
});

let report;
try {
  report = JSON.parse(stdout);
} catch {
  report = { message: (stderr || stdout).trim() };
}

const counts = report.metadata?.vulnerabilities;
if (counts === undefined) {
  const reason = report.message ?? report.error?.summary ?? 'no answer';
  console.log(`audit: NOT DONE, the registry gave no advisories: ${reason}`);
} else {
  const found = Object.values(report.vulnerabilities ?? {});
  for (const { name, severity, range, via, isDirect } of found) {
    const titles = via.map((one) =>
      typeof one === 'string' ? `by ${one}` : `${one.title} ${one.url}`,
    );
    const kind = isDirect ? 'direct' : 'transitive';
    console.log(`audit: ${severity}: ${name} ${range} (${kind}): ${titles.join('; ')}`);
  }
  const failing = found.filter(({ severity }) => FAILING.includes(severity)).length;
  const total = report.metadata.dependencies?.total ?? 0;
  console.log(
    `audit: ${total} packages, ${found.length} with advisories, ${failing} of them high or critical`,
  );
  process.exitCode = failing > 0 ? 1 : 0;
}
