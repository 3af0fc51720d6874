//! The cost of parsing the head of a request.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use downpour::http::{HeadScanner, parse};

const CURL: &str = "GET /channels/news HTTP/1.1\r\n\
    Host: localhost:8080\r\n\
    User-Agent: curl/8.14.1\r\n\
    Accept: */*\r\n\
    \r\n";

const BROWSER: &str = "GET /sse?channels=prices:usd,prices:eur,news HTTP/1.1\r\n\
    Host: events.example.com\r\n\
    Connection: keep-alive\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/event-stream\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\", \"Google Chrome\";v=\"140\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    Origin: https://www.example.com\r\n\
    Sec-Fetch-Site: same-site\r\n\
    Sec-Fetch-Mode: cors\r\n\
    Sec-Fetch-Dest: empty\r\n\
    Referer: https://www.example.com/dashboard\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Last-Event-ID: 0123456789abcdef-0000000000000001\r\n\
    \r\n";

fn request_head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request_head");
    for (client, head) in [("curl", CURL), ("browser", BROWSER)] {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(BenchmarkId::new("whole", client), |bencher| {
            bencher.iter(|| parse(black_box(head.as_bytes())).expect("the head is valid"));
        });
        group.bench_function(BenchmarkId::new("in_64_byte_pieces", client), |bencher| {
            bencher.iter(|| {
                let mut scanner = HeadScanner::default();
                let ends = (64..head.len()).step_by(64).chain([head.len()]);
                ends.filter_map(|end| {
                    scanner.parse(black_box(&head.as_bytes()[..end])).expect("the head is valid")
                })
                .count()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, request_head);
criterion_main!(benches);
