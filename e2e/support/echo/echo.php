<?php
// An application in PHP: tells in `X-Seen` how a program in this language reads the request, in several usual ways.
function resolved(string $path): string {
    $kept = [];
    foreach (explode('/', $path) as $segment) {
        if ($segment === '..') array_pop($kept);
        elseif ($segment !== '.' && $segment !== '') $kept[] = $segment;
    }
    return '/' . implode('/', $kept);
}
$raw = $_SERVER['REQUEST_URI'];
$path = explode('?', $raw)[0];
$url = parse_url($raw, PHP_URL_PATH);
$readings = [
    'parse_url' => is_string($url) ? $url : $raw,
    'rawurldecode' => rawurldecode($path), // as Symfony and Slim do
    'urldecode' => urldecode($path),
    'script' => $_SERVER['SCRIPT_NAME'] ?? '', // what PHP's own server made of it
    'resolved' => resolved(rawurldecode($path)),
    'backslash' => resolved(str_replace('\\', '/', rawurldecode($path))),
];
$header = fn (string $name): string => $_SERVER['HTTP_' . $name] ?? '';
// Headers that old Symfony, Zend and Laravel take for the path or the method.
foreach (['X_ORIGINAL_URL', 'X_REWRITE_URL'] as $name) if ($header($name) !== '') $readings[$name] = explode('?', $header($name))[0];
$method = $_SERVER['REQUEST_METHOD'];
if ($method === 'POST' && $header('X_HTTP_METHOD_OVERRIDE') !== '') $method = $header('X_HTTP_METHOD_OVERRIDE');
$all = '';
foreach ($_SERVER as $name => $value) if (str_starts_with($name, 'HTTP_')) $all .= "$name: $value\n";
$seen = ['method' => $method, 'raw' => $raw, 'readings' => $readings, 'organization' => $header('DOORWARD_ORGANIZATION'),
    'role' => $header('DOORWARD_ROLE'), 'user' => $header('REMOTE_USER'), 'cookie' => $header('COOKIE'), 'upgrade' => $header('UPGRADE'), 'all' => $all,
    'hosts' => [$header('HOST'), $header('X_FORWARDED_HOST')]];
header('X-Seen: ' . base64_encode(json_encode($seen, JSON_INVALID_UTF8_SUBSTITUTE)));
header('Content-Length: 0');
