// Writes the dashboards' JSON; with --check only tells whether what is committed is what would be written.
import { readFileSync, writeFileSync } from 'node:fs';

import { agent } from './agent.js';
import { container } from './container.js';
import { fleet } from './fleet.js';
import { network } from './network.js';

const check = process.argv.includes('--check');
for (const [name, made] of Object.entries({ agent, container, fleet, network })) {
  const path = new URL(`../${name}.json`, import.meta.url);
  const text = `${JSON.stringify(made, null, 2)}\n`;
  if (!check) {
    writeFileSync(path, text);
  } else if (readFileSync(path, 'utf8') !== text) {
    console.error(`dashboards/${name}.json is not what src/${name}.ts makes: run npm run write in dashboards/`);
    process.exitCode = 1;
  }
}
