import { expect, test } from 'vitest';
import { ownAddress } from '../../../dashboard/own-address.js';

test.each([
  [undefined, '/'],
  ['/models?minutes=15', '/models?minutes=15'],
  ['https://evil.example/', '/'],
  ['//evil.example/x', '/'],
  ['/\\evil.example', '/'],
  ['/\t/evil.example', '/'],
  ['javascript:alert(1)', '/'],
  ['/a/../b', '/b'],
  ['/.//evil.example', '/'],
  ['/x/..//evil.example', '/'],
  ['/%2e//evil.example', '/'],
  ['/.\\/evil.example', '/'],
  ['/x/%2E%2e//evil.example/y?z', '/'],
  ['/%2f/evil.example', '/%2f/evil.example'],
  ['/?to=//evil.example', '/?to=//evil.example'],
  ['', '/'],
])('the sign-in leads nobody to another site: %j [bad-45]', (to, address) => expect(ownAddress(to)).toBe(address));
