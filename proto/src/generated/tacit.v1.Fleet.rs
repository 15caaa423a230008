/// Generated client implementations.
pub mod fleet_client {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    use tonic::codegen::http::Uri;
    #[derive(Debug, Clone)]
    pub struct FleetClient<T> {
        inner: tonic::client::Grpc<T>,
    }
    impl FleetClient<tonic::transport::Channel> {
        /// Attempt to create a new client by connecting to a given endpoint.
        pub async fn connect<D>(dst: D) -> Result<Self, tonic::transport::Error>
        where
            D: TryInto<tonic::transport::Endpoint>,
            D::Error: Into<StdError>,
        {
            let conn = tonic::transport::Endpoint::new(dst)?.connect().await?;
            Ok(Self::new(conn))
        }
    }
    impl<T> FleetClient<T>
    where
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: Body<Data = Bytes> + std::marker::Send + 'static,
        <T::ResponseBody as Body>::Error: Into<StdError> + std::marker::Send,
    {
        pub fn new(inner: T) -> Self {
            let inner = tonic::client::Grpc::new(inner);
            Self { inner }
        }
        pub fn with_origin(inner: T, origin: Uri) -> Self {
            let inner = tonic::client::Grpc::with_origin(inner, origin);
            Self { inner }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> FleetClient<InterceptedService<T, F>>
        where
            F: tonic::service::Interceptor,
            T::ResponseBody: Default,
            T: tonic::codegen::Service<
                http::Request<tonic::body::Body>,
                Response = http::Response<
                    <T as tonic::client::GrpcService<tonic::body::Body>>::ResponseBody,
                >,
            >,
            <T as tonic::codegen::Service<
                http::Request<tonic::body::Body>,
            >>::Error: Into<StdError> + std::marker::Send + std::marker::Sync,
        {
            FleetClient::new(InterceptedService::new(inner, interceptor))
        }
        /// Compress requests with the given encoding.
        ///
        /// This requires the server to support it otherwise it might respond with an
        /// error.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.send_compressed(encoding);
            self
        }
        /// Enable decompressing responses.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.inner = self.inner.accept_compressed(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_decoding_message_size(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.inner = self.inner.max_encoding_message_size(limit);
            self
        }
        pub async fn check_in(
            &mut self,
            request: impl tonic::IntoRequest<crate::fleet::CheckIn>,
        ) -> std::result::Result<
            tonic::Response<crate::fleet::CheckedIn>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = crate::codec::WireCodec::default();
            let path = http::uri::PathAndQuery::from_static("/tacit.v1.Fleet/CheckIn");
            let mut req = request.into_request();
            req.extensions_mut().insert(GrpcMethod::new("tacit.v1.Fleet", "CheckIn"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn receive(
            &mut self,
            request: impl tonic::IntoRequest<crate::fleet::Receive>,
        ) -> std::result::Result<
            tonic::Response<crate::fleet::Received>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = crate::codec::WireCodec::default();
            let path = http::uri::PathAndQuery::from_static("/tacit.v1.Fleet/Receive");
            let mut req = request.into_request();
            req.extensions_mut().insert(GrpcMethod::new("tacit.v1.Fleet", "Receive"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn send(
            &mut self,
            request: impl tonic::IntoRequest<crate::fleet::Send>,
        ) -> std::result::Result<tonic::Response<crate::fleet::Sent>, tonic::Status> {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = crate::codec::WireCodec::default();
            let path = http::uri::PathAndQuery::from_static("/tacit.v1.Fleet/Send");
            let mut req = request.into_request();
            req.extensions_mut().insert(GrpcMethod::new("tacit.v1.Fleet", "Send"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn upload(
            &mut self,
            request: impl tonic::IntoStreamingRequest<Message = crate::fleet::UploadPart>,
        ) -> std::result::Result<
            tonic::Response<crate::fleet::Uploaded>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = crate::codec::WireCodec::default();
            let path = http::uri::PathAndQuery::from_static("/tacit.v1.Fleet/Upload");
            let mut req = request.into_streaming_request();
            req.extensions_mut().insert(GrpcMethod::new("tacit.v1.Fleet", "Upload"));
            self.inner.client_streaming(req, path, codec).await
        }
        pub async fn prove(
            &mut self,
            request: impl tonic::IntoRequest<crate::ledger::Prove>,
        ) -> std::result::Result<
            tonic::Response<crate::ledger::LedgerProof>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = crate::codec::WireCodec::default();
            let path = http::uri::PathAndQuery::from_static("/tacit.v1.Fleet/Prove");
            let mut req = request.into_request();
            req.extensions_mut().insert(GrpcMethod::new("tacit.v1.Fleet", "Prove"));
            self.inner.unary(req, path, codec).await
        }
        pub async fn download(
            &mut self,
            request: impl tonic::IntoRequest<crate::fleet::Download>,
        ) -> std::result::Result<
            tonic::Response<tonic::codec::Streaming<crate::fleet::DownloadPart>>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = crate::codec::WireCodec::default();
            let path = http::uri::PathAndQuery::from_static("/tacit.v1.Fleet/Download");
            let mut req = request.into_request();
            req.extensions_mut().insert(GrpcMethod::new("tacit.v1.Fleet", "Download"));
            self.inner.server_streaming(req, path, codec).await
        }
        pub async fn report(
            &mut self,
            request: impl tonic::IntoRequest<crate::fleet::Report>,
        ) -> std::result::Result<
            tonic::Response<crate::fleet::Reported>,
            tonic::Status,
        > {
            self.inner
                .ready()
                .await
                .map_err(|e| {
                    tonic::Status::unknown(
                        format!("Service was not ready: {}", e.into()),
                    )
                })?;
            let codec = crate::codec::WireCodec::default();
            let path = http::uri::PathAndQuery::from_static("/tacit.v1.Fleet/Report");
            let mut req = request.into_request();
            req.extensions_mut().insert(GrpcMethod::new("tacit.v1.Fleet", "Report"));
            self.inner.unary(req, path, codec).await
        }
    }
}
/// Generated server implementations.
pub mod fleet_server {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    /// Generated trait containing gRPC methods that should be implemented for use with FleetServer.
    #[async_trait]
    pub trait Fleet: std::marker::Send + std::marker::Sync + 'static {
        async fn check_in(
            &self,
            request: tonic::Request<crate::fleet::CheckIn>,
        ) -> std::result::Result<
            tonic::Response<crate::fleet::CheckedIn>,
            tonic::Status,
        >;
        async fn receive(
            &self,
            request: tonic::Request<crate::fleet::Receive>,
        ) -> std::result::Result<tonic::Response<crate::fleet::Received>, tonic::Status>;
        async fn send(
            &self,
            request: tonic::Request<crate::fleet::Send>,
        ) -> std::result::Result<tonic::Response<crate::fleet::Sent>, tonic::Status>;
        async fn upload(
            &self,
            request: tonic::Request<tonic::Streaming<crate::fleet::UploadPart>>,
        ) -> std::result::Result<tonic::Response<crate::fleet::Uploaded>, tonic::Status>;
        async fn prove(
            &self,
            request: tonic::Request<crate::ledger::Prove>,
        ) -> std::result::Result<
            tonic::Response<crate::ledger::LedgerProof>,
            tonic::Status,
        >;
        /// Server streaming response type for the Download method.
        type DownloadStream: tonic::codegen::tokio_stream::Stream<
                Item = std::result::Result<crate::fleet::DownloadPart, tonic::Status>,
            >
            + std::marker::Send
            + 'static;
        async fn download(
            &self,
            request: tonic::Request<crate::fleet::Download>,
        ) -> std::result::Result<tonic::Response<Self::DownloadStream>, tonic::Status>;
        async fn report(
            &self,
            request: tonic::Request<crate::fleet::Report>,
        ) -> std::result::Result<tonic::Response<crate::fleet::Reported>, tonic::Status>;
    }
    #[derive(Debug)]
    pub struct FleetServer<T> {
        inner: Arc<T>,
        accept_compression_encodings: EnabledCompressionEncodings,
        send_compression_encodings: EnabledCompressionEncodings,
        max_decoding_message_size: Option<usize>,
        max_encoding_message_size: Option<usize>,
    }
    impl<T> FleetServer<T> {
        pub fn new(inner: T) -> Self {
            Self::from_arc(Arc::new(inner))
        }
        pub fn from_arc(inner: Arc<T>) -> Self {
            Self {
                inner,
                accept_compression_encodings: Default::default(),
                send_compression_encodings: Default::default(),
                max_decoding_message_size: None,
                max_encoding_message_size: None,
            }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> InterceptedService<Self, F>
        where
            F: tonic::service::Interceptor,
        {
            InterceptedService::new(Self::new(inner), interceptor)
        }
        /// Enable decompressing requests with the given encoding.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.accept_compression_encodings.enable(encoding);
            self
        }
        /// Compress responses with the given encoding, if the client supports it.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.send_compression_encodings.enable(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.max_decoding_message_size = Some(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.max_encoding_message_size = Some(limit);
            self
        }
    }
    impl<T, B> tonic::codegen::Service<http::Request<B>> for FleetServer<T>
    where
        T: Fleet,
        B: Body + std::marker::Send + 'static,
        B::Error: Into<StdError> + std::marker::Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;
        fn poll_ready(
            &mut self,
            _cx: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, req: http::Request<B>) -> Self::Future {
            match req.uri().path() {
                "/tacit.v1.Fleet/CheckIn" => {
                    #[allow(non_camel_case_types)]
                    struct CheckInSvc<T: Fleet>(pub Arc<T>);
                    impl<T: Fleet> tonic::server::UnaryService<crate::fleet::CheckIn>
                    for CheckInSvc<T> {
                        type Response = crate::fleet::CheckedIn;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<crate::fleet::CheckIn>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as Fleet>::check_in(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = CheckInSvc(inner);
                        let codec = crate::codec::WireCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/tacit.v1.Fleet/Receive" => {
                    #[allow(non_camel_case_types)]
                    struct ReceiveSvc<T: Fleet>(pub Arc<T>);
                    impl<T: Fleet> tonic::server::UnaryService<crate::fleet::Receive>
                    for ReceiveSvc<T> {
                        type Response = crate::fleet::Received;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<crate::fleet::Receive>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as Fleet>::receive(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ReceiveSvc(inner);
                        let codec = crate::codec::WireCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/tacit.v1.Fleet/Send" => {
                    #[allow(non_camel_case_types)]
                    struct SendSvc<T: Fleet>(pub Arc<T>);
                    impl<T: Fleet> tonic::server::UnaryService<crate::fleet::Send>
                    for SendSvc<T> {
                        type Response = crate::fleet::Sent;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<crate::fleet::Send>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as Fleet>::send(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = SendSvc(inner);
                        let codec = crate::codec::WireCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/tacit.v1.Fleet/Upload" => {
                    #[allow(non_camel_case_types)]
                    struct UploadSvc<T: Fleet>(pub Arc<T>);
                    impl<
                        T: Fleet,
                    > tonic::server::ClientStreamingService<crate::fleet::UploadPart>
                    for UploadSvc<T> {
                        type Response = crate::fleet::Uploaded;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                tonic::Streaming<crate::fleet::UploadPart>,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as Fleet>::upload(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = UploadSvc(inner);
                        let codec = crate::codec::WireCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.client_streaming(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/tacit.v1.Fleet/Prove" => {
                    #[allow(non_camel_case_types)]
                    struct ProveSvc<T: Fleet>(pub Arc<T>);
                    impl<T: Fleet> tonic::server::UnaryService<crate::ledger::Prove>
                    for ProveSvc<T> {
                        type Response = crate::ledger::LedgerProof;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<crate::ledger::Prove>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as Fleet>::prove(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ProveSvc(inner);
                        let codec = crate::codec::WireCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/tacit.v1.Fleet/Download" => {
                    #[allow(non_camel_case_types)]
                    struct DownloadSvc<T: Fleet>(pub Arc<T>);
                    impl<
                        T: Fleet,
                    > tonic::server::ServerStreamingService<crate::fleet::Download>
                    for DownloadSvc<T> {
                        type Response = crate::fleet::DownloadPart;
                        type ResponseStream = T::DownloadStream;
                        type Future = BoxFuture<
                            tonic::Response<Self::ResponseStream>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<crate::fleet::Download>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as Fleet>::download(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = DownloadSvc(inner);
                        let codec = crate::codec::WireCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.server_streaming(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/tacit.v1.Fleet/Report" => {
                    #[allow(non_camel_case_types)]
                    struct ReportSvc<T: Fleet>(pub Arc<T>);
                    impl<T: Fleet> tonic::server::UnaryService<crate::fleet::Report>
                    for ReportSvc<T> {
                        type Response = crate::fleet::Reported;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<crate::fleet::Report>,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as Fleet>::report(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ReportSvc(inner);
                        let codec = crate::codec::WireCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                _ => {
                    Box::pin(async move {
                        let mut response = http::Response::new(
                            tonic::body::Body::default(),
                        );
                        let headers = response.headers_mut();
                        headers
                            .insert(
                                tonic::Status::GRPC_STATUS,
                                (tonic::Code::Unimplemented as i32).into(),
                            );
                        headers
                            .insert(
                                http::header::CONTENT_TYPE,
                                tonic::metadata::GRPC_CONTENT_TYPE,
                            );
                        Ok(response)
                    })
                }
            }
        }
    }
    impl<T> Clone for FleetServer<T> {
        fn clone(&self) -> Self {
            let inner = self.inner.clone();
            Self {
                inner,
                accept_compression_encodings: self.accept_compression_encodings,
                send_compression_encodings: self.send_compression_encodings,
                max_decoding_message_size: self.max_decoding_message_size,
                max_encoding_message_size: self.max_encoding_message_size,
            }
        }
    }
    /// Generated gRPC service name
    pub const SERVICE_NAME: &str = "tacit.v1.Fleet";
    impl<T> tonic::server::NamedService for FleetServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
