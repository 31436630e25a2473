import { AwsError } from './aws-error';
import type { CredentialStore } from './credentials';
import { startService, type Endpoint } from './endpoint';
import { page, type Fleet, type FleetNode } from './fleet';
import type { Iam } from './iam';
import { element, text } from './xml';

const VERSION = '2016-11-15';
const STATE_CODES = { running: 16, stopped: 80, terminated: 48 } as const;
const DEFAULT_PAGE = 1000;

// A filter's value may hold * and ?, as in EC2.
const matches = (pattern: string, value: string): boolean =>
  new RegExp(
    `^${pattern
      .replace(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.')}$`,
    's',
  ).test(value);

interface Filter {
  readonly name: string;
  readonly values: readonly string[];
}

// A terminated instance is listed for an hour or so, without the addresses that it had.
const addressesOf = (node: FleetNode): { readonly ip: readonly string[]; readonly dnsName: string } =>
  node.state === 'terminated' ? { ip: [], dnsName: '' } : { ip: [node.privateIp], dnsName: node.privateDnsName };

const valuesOf = (node: FleetNode, name: string): readonly string[] => {
  if (name === 'instance-state-name') return [node.state ?? 'running'];
  if (name === 'instance-id') return [node.instanceId];
  if (name === 'private-ip-address') return addressesOf(node).ip;
  if (name === 'private-dns-name') return [addressesOf(node).dnsName];
  if (name === 'tag-key') return Object.keys(node.tags);
  if (name.startsWith('tag:')) {
    const value = node.tags[name.slice('tag:'.length)];
    return value === undefined ? [] : [value];
  }
  throw new AwsError(
    'InvalidParameterValue',
    `The filter '${name}' is invalid; this stand-in knows instance-state-name, instance-id, private-ip-address, private-dns-name, tag-key and tag:<key>`,
  );
};

const instance = (node: FleetNode, zone: string): string => {
  const state = node.state ?? 'running';
  const { ip, dnsName } = addressesOf(node);
  return element(
    'item',
    [
      text('instanceId', node.instanceId),
      element('instanceState', text('code', String(STATE_CODES[state])) + text('name', state)),
      text('privateDnsName', dnsName),
      ...ip.map((address) => text('privateIpAddress', address)),
      text('architecture', node.arch),
      element('placement', text('availabilityZone', zone)),
      element(
        'tagSet',
        Object.entries(node.tags)
          .map(([key, value]) => element('item', text('key', key) + text('value', value)))
          .join(''),
      ),
      element(
        'metadataOptions',
        text('state', 'applied') +
          text('httpTokens', 'required') +
          text('httpPutResponseHopLimit', '1') +
          text('httpEndpoint', 'enabled'),
      ),
    ].join(''),
  );
};

interface Query {
  readonly instanceIds: readonly string[];
  readonly filters: readonly Filter[];
  readonly maxResults: number | undefined;
  readonly nextToken: string | undefined;
}

/** Reads the query protocol. Throws UnknownParameter for what this stand-in does not know. */
const parse = (form: URLSearchParams): Query => {
  const filters = new Map<string, { name?: string; values: string[] }>();
  const instanceIds: string[] = [];
  let maxResults: number | undefined;
  let nextToken: string | undefined;
  for (const [key, value] of form) {
    const [, index = '', kind = ''] = /^Filter\.(\d+)\.(Name|Value\.\d+)$/.exec(key) ?? [];
    if (index !== '') {
      const filter = filters.get(index) ?? { values: [] };
      if (kind === 'Name') filter.name = value;
      else filter.values.push(value);
      filters.set(index, filter);
    } else if (/^InstanceId\.\d+$/.test(key)) instanceIds.push(value);
    else if (key === 'MaxResults') maxResults = Number(value);
    else if (key === 'NextToken') nextToken = value;
    else if (key !== 'Action' && key !== 'Version')
      throw new AwsError('UnknownParameter', `The parameter ${key} is not recognized`);
  }
  if (maxResults !== undefined && !(maxResults >= 5 && maxResults <= 1000)) {
    throw new AwsError(
      'InvalidParameterValue',
      `Value (${String(maxResults)}) for parameter maxResults is invalid. Expecting a value between 5 and 1000.`,
    );
  }
  if (maxResults !== undefined && instanceIds.length > 0) {
    throw new AwsError(
      'InvalidParameterCombination',
      'The parameter instancesSet cannot be used with the parameter maxResults',
    );
  }
  return {
    instanceIds,
    filters: [...filters.values()].map(({ name, values }) => {
      if (name === undefined || values.length === 0)
        throw new AwsError('InvalidParameterValue', 'a filter needs a Name and at least one Value');
      return { name, values };
    }),
    maxResults,
    nextToken,
  };
};

const describeInstances = (query: Query, fleet: Fleet, account: string, region: string): string => {
  const unknown = query.instanceIds.filter((id) => fleet.find(id) === undefined);
  if (unknown.length > 0)
    throw new AwsError('InvalidInstanceID.NotFound', `The instance IDs '${unknown.join(', ')}' do not exist`);
  const found = fleet
    .all()
    .filter(({ instanceId }) => query.instanceIds.length === 0 || query.instanceIds.includes(instanceId))
    .filter((node) =>
      query.filters.every(({ name, values }) =>
        valuesOf(node, name).some((value) => values.some((pattern) => matches(pattern, value))),
      ),
    );
  const { items, next } = page(found, query.maxResults ?? DEFAULT_PAGE, query.nextToken, 'InvalidNextToken');
  const reservations = items.map((node) =>
    element(
      'item',
      text('reservationId', node.instanceId.replace('i-', 'r-')) +
        text('ownerId', account) +
        element('instancesSet', instance(node, `${region}a`)),
    ),
  );
  return element('reservationSet', reservations.join('')) + (next === undefined ? '' : text('nextToken', next));
};

/** Starts the EC2 stand-in: DescribeInstances, by ids or filters, in pages. */
export const startEc2 = (options: {
  readonly fleet: Fleet;
  readonly iam: Iam;
  readonly credentials: CredentialStore;
  readonly region: string;
  readonly port: number;
}): Promise<Endpoint> =>
  startService({
    service: 'ec2',
    region: options.region,
    port: options.port,
    credentials: options.credentials,
    handle: async ({ method, body, caller }) => {
      const form = new URLSearchParams(body.toString('utf8'));
      const action = form.get('Action') ?? '';
      if (method !== 'POST' || action !== 'DescribeInstances' || form.get('Version') !== VERSION) {
        throw new AwsError(
          'InvalidAction',
          `this stand-in knows POST DescribeInstances ${VERSION}; got ${method} ${action} ${form.get('Version') ?? ''}`,
        );
      }
      await options.iam.authorize(caller, [{ action: 'ec2:DescribeInstances', resource: '*' }]);
      const content = describeInstances(parse(form), options.fleet, options.iam.account, options.region);
      return {
        headers: { 'content-type': 'text/xml;charset=UTF-8' },
        body: `<?xml version="1.0" encoding="UTF-8"?><DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/${VERSION}/">${content}</DescribeInstancesResponse>`,
      };
    },
    renderError: (error, requestId) => {
      // EC2 has its own names for what other services call otherwise.
      const code =
        {
          AccessDeniedException: 'UnauthorizedOperation',
          UnrecognizedClientException: 'AuthFailure',
          InvalidSignatureException: 'SignatureDoesNotMatch',
        }[error.code] ?? error.code;
      return {
        status: code === 'UnauthorizedOperation' ? 403 : error.status,
        headers: { 'content-type': 'text/xml;charset=UTF-8' },
        body: `<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error>${text('Code', code)}${text('Message', error.message)}</Error></Errors>${text('RequestID', requestId)}</Response>`,
      };
    },
  });
