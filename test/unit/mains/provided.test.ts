import { expect, test } from 'vitest';
import { loadConfig } from '../../../config.js';
import { providedBy } from '../../../mains/up.js';

test('what `up` hands to the processes it starts counts as set by a person only where the environment has it', () => {
  const env = { ORCHESTRA_HOME: '/srv/orchestra', PORT: '8080', METRICS_PORT: '9090', DATABASE_URL: 'postgres://127.0.0.1:1/x' };
  // 9090 is the default: that the value is the same does not make it a setting of a person's.
  expect(providedBy(loadConfig({}).settings, env)).toBe('ORCHESTRA_HOME,PORT,METRICS_PORT,DATABASE_URL');
  expect(providedBy(loadConfig({ METRICS_PORT: '9090', ORCHESTRA_HOME: '/srv/orchestra' }).settings, env)).toBe('PORT,DATABASE_URL');
});
