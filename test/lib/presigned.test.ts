import { S3Client } from '@aws-sdk/client-s3';
import { App, Stack } from 'aws-cdk-lib';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { headersParameter, presignPut } from '../../lambda/backup/presign';
import { presignGet } from '../../lambda/restore/seal';
import { officialTools } from '../../lambda/shared/official-tools';
import { putInput } from '../../lambda/shared/store';
import { HEADERS_PARAMETER, objectUrlPattern, OPTIONAL_HEADERS_PARAMETER } from '../../lib/presigned';
import { type CfnTemplate, exampleTemplate, resourcesOfType } from './example-stack';
import { deployed } from './simulated-iam';

interface Content {
  readonly parameters: Readonly<Record<string, { readonly allowedPattern: string }>>;
}

/** The patterns that SSM would get with the document of this name. */
function patternsOf(template: CfnTemplate, document: string): Record<string, RegExp> {
  const [, resource] =
    resourcesOfType(template, 'AWS::SSM::Document').find(([id]) => id.startsWith(`${document}Document`)) ?? [];
  const { parameters } = deployed(template, resource?.Properties['Content']) as Content;
  return Object.fromEntries(
    Object.entries(parameters).map(([name, { allowedPattern }]) => [name, new RegExp(allowedPattern)]),
  );
}

const SHA256 = 'a'.repeat(64);
const template = exampleTemplate({ pkiBundle: true, acknowledgedTools: [SHA256] });
const QUERY = '?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20261120%2Feu-central-1&x-id=PutObject';
const HOST = 'bucket.s3.eu-central-1.amazonaws.com';

/** URLs that lead elsewhere, however much they look like one of the bucket. */
const ELSEWHERE = [
  `https://elsewhere.s3.eu-central-1.amazonaws.com/PREFIX/a${QUERY}`,
  `https://elsewhere.example/PREFIX/a${QUERY}`,
  `http://${HOST}/PREFIX/a${QUERY}`,
  `https://${HOST}.elsewhere.example/PREFIX/a${QUERY}`,
  `https://${HOST}:8443/PREFIX/a${QUERY}`,
  `https://${HOST}@elsewhere.example/PREFIX/a${QUERY}`,
  `https://elsewhere.example/?${HOST}/PREFIX/a${QUERY}`,
  `https://elsewhere.example/https://${HOST}/PREFIX/a${QUERY}`,
  `https://elsewhere-${HOST}/PREFIX/a${QUERY}`,
  `https://bucket-s3.eu-central-1.amazonaws.com/PREFIX/a${QUERY}`,
  `https://bucket.s3.eu-central-1.amazonaws-com/PREFIX/a${QUERY}`,
  `https://s3.eu-central-1.amazonaws.com/elsewhere/PREFIX/a${QUERY}`,
  `https://bucket.s3.us-east-1.amazonaws.com/PREFIX/a${QUERY}`,
  `https://${HOST}/other/a${QUERY}`,
];

describe.each([
  ['BackupUpload', 'Url', 'snapshots', (url: string) => url],
  ['PkiBundle', 'Url', 'pki', (url: string) => url],
  ['RestorePreflight', 'SnapshotUrl', 'snapshots', (url: string) => url],
  ['BackupTools', 'Uploads', 'tools', (url: string) => `etcd=${SHA256}=${url}`],
  ['BackupSnapshot', 'ToolUrls', 'tools', (url: string) => `3.5.21+vendor.1/amd64/etcdutl=${SHA256}=${url}`],
  ['RestorePreflight', 'ToolUrls', 'tools', (url: string) => `3.6.5/arm64/etcdctl=${SHA256}=${url}`],
])('the document %s', (document, parameter, prefix, valueOf) => {
  const pattern = patternsOf(template, document)[parameter] ?? /^$/;
  const good = valueOf(`https://${HOST}/${prefix}/a${QUERY}`);

  test(`takes as ${parameter} what lies under ${prefix}/ of this stack's bucket`, () => {
    expect(pattern.test(good)).toBe(true);
  });

  test.each(ELSEWHERE)(`takes as ${parameter} no URL such as %s`, (url) => {
    const bad = valueOf(url.replaceAll('PREFIX', prefix));
    expect(pattern.test(bad)).toBe(false);
    // Nor behind a good one.
    expect(pattern.test(`${good} ${bad}`)).toBe(false);
    expect(pattern.test(`${good}\n${bad}`)).toBe(false);
  });
});

test('a backup gives a node no tool but acknowledged and official ones, whatever its role calls so', () => {
  const toolUrl = (sha256: string) => `3.6.4/amd64/etcdutl=${sha256}=https://${HOST}/tools/a${QUERY}`;
  const pattern = patternsOf(template, 'BackupSnapshot')['ToolUrls'] ?? /^$/;
  const hashes = [...Object.values(officialTools)].flatMap((byArch) =>
    Object.values(byArch).flatMap(({ etcdutl }) => etcdutl ?? []),
  );
  expect(pattern.test('')).toBe(true);
  for (const good of [SHA256, ...hashes]) {
    expect([good, pattern.test(toolUrl(good))]).toEqual([good, true]);
    expect([good, pattern.test(`${toolUrl(good)} ${toolUrl(SHA256)}`)]).toEqual([good, true]);
  }
  const bad = toolUrl('b'.repeat(64));
  for (const value of [bad, `${toolUrl(SHA256)} ${bad}`, `${bad} ${toolUrl(SHA256)}`, toolUrl(`b=${SHA256}`)]) {
    expect([value, pattern.test(value)]).toEqual([value, false]);
  }
  const none = patternsOf(exampleTemplate(), 'BackupSnapshot')['ToolUrls'] ?? /^$/;
  expect([none.test(''), none.test(toolUrl(SHA256))]).toEqual([true, false]);
});

test('several tools are taken, each from the bucket', () => {
  const tool = (name: string) => `${name}=${SHA256}=https://${HOST}/tools/3.6.5/amd64/${SHA256}/${name}${QUERY}`;
  expect(['etcd', 'etcdctl', 'etcdutl'].map(tool).join(' ')).toMatch(
    patternsOf(template, 'BackupTools')['Uploads'] ?? /^$/,
  );
});

test.each([
  ['BackupUpload', false],
  ['BackupTools', false],
  ['PkiBundle', true],
])('the document %s takes the headers of a presigned PUT, and none that says who gets it', (document, optional) => {
  const pattern = patternsOf(template, document)['Headers'] ?? /^$/;
  expect(pattern.test('if-none-match: *|x-amz-checksum-sha256: Aa+/=|x-amz-meta-cluster: example')).toBe(true);
  expect(pattern.test('')).toBe(optional);
  for (const bad of ['host: elsewhere', 'Host: elsewhere', 'transfer-encoding: chunked', 'x-forwarded-host: a', 'a']) {
    expect([bad, pattern.test(bad)]).toEqual([bad, false]);
    expect([bad, pattern.test(`if-none-match: *|${bad}`)]).toEqual([bad, false]);
  }
});

describe.each([
  ['us-east-1', 'amazonaws.com'],
  ['eu-central-1', 'amazonaws.com'],
  ['us-gov-west-1', 'amazonaws.com'],
  ['cn-north-1', 'amazonaws.com.cn'],
  ['us-iso-east-1', 'c2s.ic.gov'],
  ['eusc-de-east-1', 'amazonaws.eu'],
])('in %s', (region, urlSuffix) => {
  /** As CloudFormation has it in this region. */
  const patternIn = (make: (stack: Stack) => string) => {
    const stack = new Stack(new App(), 'test');
    const value: unknown = stack.resolve(make(stack));
    const pseudo: Record<string, string> = {
      'AWS::Region': region,
      'AWS::URLSuffix': urlSuffix,
      Bucket83908E77: 'own',
    };
    const text = JSON.stringify(value).replaceAll(/\{"Ref":"([^"]+)"\}/g, (_, name: string) =>
      JSON.stringify(pseudo[name] ?? `unknown ${name}`),
    );
    return new RegExp(`^${String(deployed({ Resources: {}, Outputs: {} }, JSON.parse(text)))}$`);
  };
  const s3 = new S3Client({
    region,
    credentials: { accessKeyId: 'AKIA', secretAccessKey: 'secret', sessionToken: 'a/b+c==' },
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  const urlsOf = async (bucket: string) => {
    const store = {
      s3,
      bucket,
      bucketOwner: '111122223333',
      snapshotKeyArn: 'arn:aws:kms:::key/a',
      sleep: () => Promise.resolve(),
    };
    const input = putInput(store, { key: 'tools/3.5.21+vendor.1/a', sha256: SHA256, contentLength: 1 });
    const put = await presignPut(s3, { ...input, ContentLength: 1, Metadata: { cluster: 'example' } });
    const get = await presignGet(s3, { bucket, key: 'tools/3.5.21+vendor.1/a', versionId: 'v._-1' });
    expect(headersParameter(put.headers)).toMatch(new RegExp(HEADERS_PARAMETER.allowedPattern));
    expect(headersParameter(put.headers)).toMatch(new RegExp(OPTIONAL_HEADERS_PARAMETER.allowedPattern));
    return [put.url, get.url, get.url + get.signature];
  };

  test('the presigner makes what the pattern of a bucket takes that CloudFormation named', async () => {
    const pattern = patternIn((stack) => objectUrlPattern(stack, new Bucket(stack, 'Bucket'), 'tools'));
    for (const url of await urlsOf('own')) {
      expect(url).toMatch(pattern);
    }
    for (const url of await urlsOf('other')) {
      expect(url).not.toMatch(pattern);
    }
  });

  test.each([
    ['adopted-bucket', 'adopted-buckets'],
    ['adopted.bucket', 'adoptedxbucket'],
  ])('and what that of the adopted bucket %s takes', async (bucketName, other) => {
    const pattern = patternIn((stack) =>
      objectUrlPattern(stack, Bucket.fromBucketName(stack, 'Bucket', bucketName), 'tools'),
    );
    for (const url of await urlsOf(bucketName)) {
      expect(url).toMatch(pattern);
    }
    for (const url of await urlsOf(other)) {
      expect(url).not.toMatch(pattern);
    }
  });
});
