import { expect, test } from 'vitest';
import { ownAddress } from '../../../dashboard/serve-dashboard.js';

test.each([
  [undefined, '/'],
  ['/models?minutes=15', '/models?minutes=15'],
  ['https://evil.example/', '/'],
  ['//evil.example/x', '/'],
  ['/\\evil.example', '/'],
  ['/\t/evil.example', '/'],
  ['javascript:alert(1)', '/'],
  ['/a/../b', '/b'],
])('the sign-in leads nobody to another site: %j [bad-45]', (to, address) => expect(ownAddress(to)).toBe(address));
